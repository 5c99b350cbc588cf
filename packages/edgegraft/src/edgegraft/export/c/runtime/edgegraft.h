/* Edgegraft's kernels for microcontrollers: plain C99, no allocation, no recursion.
 *
 * Values of one window; the last axis lies densest. Integers compute exactly what
 * edgegraft_edge.integer computes. Shifts are of values that are not negative, and no signed sum
 * can overflow: whoever writes a model checks its bounds.
 */
#ifndef EDGEGRAFT_H
#define EDGEGRAFT_H

#include <math.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

/* ---- numbers ---- */

/* x * multiplier * 2^(shift - 31): rounded to nearest, then once more by the shift, halves away
 * from zero. The caller sees to it that |x| * 2^shift < 2^31. */
static inline int32_t eg_scaled(int32_t x, int32_t multiplier, int32_t shift)
{
    const int32_t left = shift > 0 ? shift : 0, right = shift > 0 ? 0 : -shift;
    const int64_t product = (int64_t)(x * (int32_t)((uint32_t)1 << left)) * multiplier;
    /* floor((product + 2^30) / 2^31), shifted as a number that is not negative */
    const uint64_t above = (uint64_t)(product + (((int64_t)1 << 62) + ((int64_t)1 << 30)));
    const int32_t high = (int32_t)((int64_t)(above >> 31) - ((int64_t)1 << 31));
    const uint32_t size = high < 0 ? (uint32_t)0 - (uint32_t)high : (uint32_t)high;
    const int32_t rounded = (int32_t)((size + (((uint32_t)1 << right) >> 1)) >> right);
    return high < 0 ? -rounded : rounded;
}

/* The same, rounded once, halves away from zero. */
static inline int32_t eg_scaled_once(int32_t x, int32_t multiplier, int32_t shift)
{
    const uint32_t right = (uint32_t)(31 - shift);
    const uint32_t size = x < 0 ? (uint32_t)0 - (uint32_t)x : (uint32_t)x;
    const uint64_t product = (uint64_t)size * (uint32_t)multiplier;
    const int32_t rounded = (int32_t)((product + ((uint64_t)1 << (right - 1U))) >> right);
    return x < 0 ? -rounded : rounded;
}

static inline int8_t eg_bounded(int32_t x, int32_t low, int32_t high)
{
    return (int8_t)(x < low ? low : (x > high ? high : x));
}

/* float to int8, halves away from zero; what is no number gives the zero point. */
static inline int8_t eg_quantize(float x, float scale, int32_t zero)
{
    const float steps = x / scale, size = fabsf(steps);
    const float bounded = size < 1000.0f ? size : 1000.0f;
    /* floor(x + 1/2) = floor(2x) - floor(x), and 2x is exact where x + 1/2 is not */
    const int32_t rounded = (int32_t)(bounded + bounded) - (int32_t)bounded;
    const int32_t sign = (steps > 0.0f) - (steps < 0.0f); /* 0 for what is no number */
    return eg_bounded(sign * rounded + zero, -128, 127);
}

static inline float eg_dequantize(int8_t q, float scale, int32_t zero)
{
    return (float)((int32_t)q - zero) * scale;
}

static inline int8_t eg_requantize(
    int8_t q, int32_t x_zero, int32_t multiplier, int32_t shift, int32_t zero)
{
    return eg_bounded(eg_scaled((int32_t)q - x_zero, multiplier, shift) + zero, -128, 127);
}

/* A raw count as int8: (count * factor + offset) / 2^shift, halves away from zero. */
typedef struct {
    int32_t factor, offset;
    int8_t shift, low, high;
} eg_count;

static inline int8_t eg_counted(int16_t count, const eg_count *by, int32_t zero)
{
    const int32_t sum = (int32_t)count * by->factor + by->offset;
    const uint32_t size = sum < 0 ? (uint32_t)0 - (uint32_t)sum : (uint32_t)sum;
    const int32_t steps = (int32_t)((size + ((uint32_t)1 << (by->shift - 1))) >> by->shift);
    return eg_bounded((sum < 0 ? -steps : steps) + zero, by->low, by->high);
}

/* int8 with int8, each with a scale of its own. */
typedef struct {
    int32_t a_zero, b_zero, zero, low, high;
    int32_t a_multiplier, b_multiplier, multiplier; /* a_ and b_ only for sums */
    int32_t a_shift, b_shift, shift;
} eg_pair_s8;

static inline int8_t eg_add_s8(int8_t a, int8_t b, const eg_pair_s8 *pair)
{
    const int32_t unit = (int32_t)1 << 20;
    const int32_t one = eg_scaled(((int32_t)a - pair->a_zero) * unit, pair->a_multiplier,
                                  pair->a_shift);
    const int32_t other = eg_scaled(((int32_t)b - pair->b_zero) * unit, pair->b_multiplier,
                                    pair->b_shift);
    return eg_bounded(eg_scaled(one + other, pair->multiplier, pair->shift) + pair->zero,
                      pair->low, pair->high);
}

static inline int8_t eg_mul_s8(int8_t a, int8_t b, const eg_pair_s8 *pair)
{
    const int32_t product = ((int32_t)a - pair->a_zero) * ((int32_t)b - pair->b_zero);
    return eg_bounded(eg_scaled(product, pair->multiplier, pair->shift) + pair->zero,
                      pair->low, pair->high);
}

/* The greater, the lesser; where `a` is no number that stays so. */
static inline float eg_maximum(float a, float b) { return a < b ? b : a; }
static inline float eg_minimum(float a, float b) { return a > b ? b : a; }
static inline float eg_leaky_relu(float x, float slope) { return x > 0.0f ? x : slope * x; }
static inline float eg_sigmoid(float x) { return 0.5f * (1.0f + tanhf(0.5f * x)); }

/* Adds x to *sum; *lost keeps what rounding lost (Kahan, 1965). For long sums. */
static inline void eg_sum(float *sum, float *lost, float x)
{
    const float more = x - *lost;
    const float next = *sum + more;
    *lost = (next - *sum) - more;
    *sum = next;
}

/* ---- shapes of convolutions and pools: (height, width, channels), channels last ---- */

typedef struct {
    int32_t height, width, channels;             /* of what goes in */
    int32_t out_height, out_width, out_channels; /* of what comes out */
    int32_t kernel_height, kernel_width;
    int32_t stride_height, stride_width;
    int32_t dilation_height, dilation_width;
    int32_t pad_top, pad_left;
    int32_t groups;
} eg_shape;

/* ---- float ---- */

/* weight (groups, kernel_height, kernel_width, channels / groups, out_channels / groups) */
void eg_conv_f32(const eg_shape *shape, const float *weight, const float *bias, const float *x,
                 float *out);
/* One kernel a channel; weight (kernel_height, kernel_width, channels). */
void eg_depthwise_f32(const eg_shape *shape, const float *weight, const float *bias,
                      const float *x, float *out);
void eg_max_pool_f32(const eg_shape *shape, const float *x, float *out);
/* a (rows, inner), its rows `stride` apart, times b (inner, columns). */
void eg_matmul_f32(const float *a, int32_t stride, const float *b, float *out, int32_t rows,
                   int32_t inner, int32_t columns);
/* Over the middle axis of (outer, n, inner); x may be out. */
void eg_softmax_f32(const float *x, float *out, int32_t outer, int32_t n, int32_t inner);
/* Each of `rows` rows of n values, in place, ascending. */
void eg_sort_f32(float *x, int32_t rows, int32_t n);
/* Rows of a table (n_rows, dim) by whole numbers. */
void eg_lookup_f32(const float *ids, const float *table, float *out, int32_t n, int32_t n_rows,
                   int32_t dim);

typedef struct {
    float threshold;
    uint16_t feature; /* of a leaf: which leaf of its tree */
    uint16_t right;   /* how many nodes on the right child stands, the left one is next; 0: leaf */
} eg_node;

/* Mean of the leaves (n_leaves, n_outputs) that `x` falls into; goes left where x <= threshold.
 * roots and leaves say where each tree's nodes and leaves begin. */
void eg_trees_f32(const float *x, const eg_node *nodes, const uint32_t *roots,
                  const uint32_t *leaves, int32_t n_trees, const float *values,
                  int32_t n_outputs, float *out);

/* ---- int8 ---- */

typedef struct {
    const int8_t *weight;
    const int32_t *bias;
    const int32_t *multiplier; /* of each output channel */
    const int8_t *shift;
    int32_t x_zero, zero, low, high;
} eg_weights_s8;

/* weight (out_channels, kernel_height, kernel_width, channels / groups); bias less x_zero times
 * the sum of its weights. scratch: two patches, kernel_height * kernel_width * channels / groups
 * bytes each, unless eg_shape has height 1 in and out, one group, no dilation and no padding. */
void eg_conv_s8(const eg_shape *shape, const eg_weights_s8 *weights, const int8_t *x, int8_t *out,
                int8_t *scratch);
/* One kernel a channel; weight (kernel_height, kernel_width, channels), bias as it is. */
void eg_depthwise_s8(const eg_shape *shape, const eg_weights_s8 *weights, const int8_t *x,
                     int8_t *out);
/* x (rows, inner), weight (columns, inner); bias as in eg_conv_s8. */
void eg_dense_s8(const eg_weights_s8 *weights, const int8_t *x, int8_t *out, int32_t rows,
                 int32_t inner, int32_t columns);
/* For processors with dot products of 4 bytes in every lane (AVX-512 VNNI): weights lie as
 * (blocks of 16 output channels, groups of 4 values, 16, 4), filled up with zeros, and the bias is
 * less (x_zero + 128) times their sum; lists of output channels are filled up to 16. scratch:
 * EG_PATCHES patches, each a multiple of 4 bytes, or a row as eg_row_bytes says if that is more. */
#define EG_LANES 16
#define EG_PATCHES 8
static inline int32_t eg_row_bytes(const eg_shape *shape)
{
    const int32_t places = (shape->out_width + EG_PATCHES - 1) / EG_PATCHES * EG_PATCHES;
    const int32_t read = (places - 1) * shape->stride_width + shape->kernel_width;
    const int32_t given = shape->pad_left + shape->width;
    return (read > given ? read : given) * shape->channels + 4;
}
void eg_conv_blocks_s8(const eg_shape *shape, const eg_weights_s8 *weights, const int8_t *x,
                       int8_t *out, int8_t *scratch);
void eg_depthwise_blocks_s8(const eg_shape *shape, const eg_weights_s8 *weights, const int8_t *x,
                            int8_t *out);
void eg_dense_blocks_s8(const eg_weights_s8 *weights, const int8_t *x, int8_t *out, int32_t rows,
                        int32_t inner, int32_t columns, int8_t *scratch);
void eg_max_pool_s8(const eg_shape *shape, const int8_t *x, int8_t *out);
void eg_average_pool_s8(const eg_shape *shape, const int8_t *x, int8_t *out, int32_t low,
                        int32_t high);
/* Over the last axis of (rows, n); table: exponentials of 0 to -255 steps, in 2^-20. */
void eg_softmax_s8(const int8_t *x, int8_t *out, const int32_t *table, int32_t rows, int32_t n);
void eg_sort_s8(int8_t *x, int32_t rows, int32_t n);

/* ---- any values ---- */

/* Items of `size` bytes: (outer, n_in, size) -> (outer, n_out, size) by index. */
void eg_gather(const void *x, void *out, const int32_t *index, int32_t outer, int32_t n_in,
               int32_t n_out, int32_t size);

#ifdef __cplusplus
}
#endif

#endif
