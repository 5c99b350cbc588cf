/* Int8 convolutions and matrices with weights in blocks of 16 output channels by 4 values, for
 * processors with dot products of 4 bytes in every lane. The same bits as edgegraft_s8.c. */
#include "edgegraft.h"

#include <string.h>

#define LANES EG_LANES
#define GROUP 4
#define PATCHES EG_PATCHES

#if defined(__AVX512VNNI__) && defined(__AVX512BW__) && defined(__AVX512VL__)
#include <immintrin.h>

/* How 16 sums become int8. */
typedef struct {
    __m512i multiplier, upper, left, right, more, zero, low, high;
    __mmask16 given;
} scaling;

static inline scaling scaling_of(const eg_weights_s8 *weights, int32_t first, int32_t n)
{
    const __m512i none = _mm512_setzero_si512(), unit = _mm512_set1_epi32(1);
    const __m512i shift = _mm512_cvtepi8_epi32(
        _mm_loadu_si128((const __m128i *)(const void *)(weights->shift + first)));
    scaling found;
    found.multiplier = _mm512_loadu_si512(weights->multiplier + first);
    found.upper = _mm512_srli_epi64(found.multiplier, 32);
    found.left = _mm512_max_epi32(shift, none);
    found.right = _mm512_max_epi32(_mm512_sub_epi32(none, shift), none);
    found.more = _mm512_srli_epi32(_mm512_sllv_epi32(unit, found.right), 1);
    found.zero = _mm512_set1_epi32(weights->zero);
    found.low = _mm512_set1_epi32(weights->low);
    found.high = _mm512_set1_epi32(weights->high);
    found.given = (__mmask16)(n >= LANES ? 0xFFFF : (1 << n) - 1);
    return found;
}

static inline void finish(const scaling *by, __m512i sums, int8_t *out, int once)
{
    const __m512i none = _mm512_setzero_si512();
    __m512i rounded, signs = sums;
    if (once) {
        const __m512i right = _mm512_add_epi32(
            _mm512_sub_epi32(_mm512_set1_epi32(31), by->left), by->right);
        const __m512i even = _mm512_and_si512(right, _mm512_set1_epi64(0xFFFFFFFF));
        const __m512i odd = _mm512_srli_epi64(right, 32);
        const __m512i one = _mm512_set1_epi64(1), size = _mm512_abs_epi32(sums);
        __m512i low = _mm512_mul_epu32(size, by->multiplier);
        __m512i high = _mm512_mul_epu32(_mm512_srli_epi64(size, 32), by->upper);
        low = _mm512_add_epi64(low, _mm512_srli_epi64(_mm512_sllv_epi64(one, even), 1));
        high = _mm512_add_epi64(high, _mm512_srli_epi64(_mm512_sllv_epi64(one, odd), 1));
        high = _mm512_slli_epi64(_mm512_srlv_epi64(high, odd), 32);
        rounded = _mm512_mask_blend_epi32(0xAAAA, _mm512_srlv_epi64(low, even), high);
    } else {
        const __m512i half = _mm512_set1_epi64((int64_t)1 << 30);
        const __m512i x = _mm512_sllv_epi32(sums, by->left);
        const __m512i low = _mm512_add_epi64(_mm512_mul_epi32(x, by->multiplier), half);
        const __m512i high =
            _mm512_add_epi64(_mm512_mul_epi32(_mm512_srli_epi64(x, 32), by->upper), half);
        signs = _mm512_mask_blend_epi32(0xAAAA, _mm512_srli_epi64(low, 31),
                                        _mm512_slli_epi64(high, 1));
        rounded = _mm512_srlv_epi32(_mm512_add_epi32(_mm512_abs_epi32(signs), by->more), by->right);
    }
    rounded = _mm512_mask_sub_epi32(rounded, _mm512_movepi32_mask(signs), none, rounded);
    rounded = _mm512_add_epi32(rounded, by->zero);
    rounded = _mm512_min_epi32(_mm512_max_epi32(rounded, by->low), by->high);
    _mm_mask_storeu_epi8(out, by->given, _mm512_cvtepi32_epi8(rounded));
}

static inline __m512i spread(const int8_t *x)
{
    int32_t word;
    memcpy(&word, x, sizeof word);
    return _mm512_set1_epi32(word);
}

/* Sums of PATCHES patches of `size` bytes, `step` apart, times one block of weights. */
static inline void one_block(const int8_t *x, int32_t step, int32_t size, const int8_t *weight,
                             const int32_t *bias, __m512i *sums)
{
    __m512i s0 = _mm512_loadu_si512(bias);
    __m512i s1 = s0, s2 = s0, s3 = s0, s4 = s0, s5 = s0, s6 = s0, s7 = s0;
    for (int32_t k = 0; k < size; k += GROUP, x += GROUP, weight += LANES * GROUP) {
        const __m512i row = _mm512_loadu_si512(weight);
        s0 = _mm512_dpbusd_epi32(s0, spread(x), row);
        s1 = _mm512_dpbusd_epi32(s1, spread(x + step), row);
        s2 = _mm512_dpbusd_epi32(s2, spread(x + 2 * step), row);
        s3 = _mm512_dpbusd_epi32(s3, spread(x + 3 * step), row);
        s4 = _mm512_dpbusd_epi32(s4, spread(x + 4 * step), row);
        s5 = _mm512_dpbusd_epi32(s5, spread(x + 5 * step), row);
        s6 = _mm512_dpbusd_epi32(s6, spread(x + 6 * step), row);
        s7 = _mm512_dpbusd_epi32(s7, spread(x + 7 * step), row);
    }
    sums[0] = s0;
    sums[1] = s1;
    sums[2] = s2;
    sums[3] = s3;
    sums[4] = s4;
    sums[5] = s5;
    sums[6] = s6;
    sums[7] = s7;
}

/* Two blocks at once: each value is spread once for both. */
static inline void two_blocks(const int8_t *x, int32_t step, int32_t size, const int8_t *weight,
                              const int32_t *bias, __m512i *sums)
{
    const int8_t *other = weight + size * LANES;
    __m512i s0 = _mm512_loadu_si512(bias), t0 = _mm512_loadu_si512(bias + LANES);
    __m512i s1 = s0, s2 = s0, s3 = s0, s4 = s0, s5 = s0, s6 = s0, s7 = s0;
    __m512i t1 = t0, t2 = t0, t3 = t0, t4 = t0, t5 = t0, t6 = t0, t7 = t0;
    for (int32_t k = 0; k < size; k += GROUP, x += GROUP) {
        const __m512i row = _mm512_loadu_si512(weight + k * LANES);
        const __m512i next = _mm512_loadu_si512(other + k * LANES);
        __m512i seen = spread(x);
        s0 = _mm512_dpbusd_epi32(s0, seen, row);
        t0 = _mm512_dpbusd_epi32(t0, seen, next);
        seen = spread(x + step);
        s1 = _mm512_dpbusd_epi32(s1, seen, row);
        t1 = _mm512_dpbusd_epi32(t1, seen, next);
        seen = spread(x + 2 * step);
        s2 = _mm512_dpbusd_epi32(s2, seen, row);
        t2 = _mm512_dpbusd_epi32(t2, seen, next);
        seen = spread(x + 3 * step);
        s3 = _mm512_dpbusd_epi32(s3, seen, row);
        t3 = _mm512_dpbusd_epi32(t3, seen, next);
        seen = spread(x + 4 * step);
        s4 = _mm512_dpbusd_epi32(s4, seen, row);
        t4 = _mm512_dpbusd_epi32(t4, seen, next);
        seen = spread(x + 5 * step);
        s5 = _mm512_dpbusd_epi32(s5, seen, row);
        t5 = _mm512_dpbusd_epi32(t5, seen, next);
        seen = spread(x + 6 * step);
        s6 = _mm512_dpbusd_epi32(s6, seen, row);
        t6 = _mm512_dpbusd_epi32(t6, seen, next);
        seen = spread(x + 7 * step);
        s7 = _mm512_dpbusd_epi32(s7, seen, row);
        t7 = _mm512_dpbusd_epi32(t7, seen, next);
    }
    sums[0] = s0;
    sums[1] = s1;
    sums[2] = s2;
    sums[3] = s3;
    sums[4] = s4;
    sums[5] = s5;
    sums[6] = s6;
    sums[7] = s7;
    sums[PATCHES + 0] = t0;
    sums[PATCHES + 1] = t1;
    sums[PATCHES + 2] = t2;
    sums[PATCHES + 3] = t3;
    sums[PATCHES + 4] = t4;
    sums[PATCHES + 5] = t5;
    sums[PATCHES + 6] = t6;
    sums[PATCHES + 7] = t7;
}

/* PATCHES patches of `size` bytes, `step` apart, times all weights; `count` results are kept. */
static inline void block_s8(const eg_weights_s8 *weights, const int8_t *x, int32_t step,
                            int32_t size, int32_t columns, int32_t count, int8_t *out, int once)
{
    const int8_t *weight = weights->weight;
    const int32_t block = size * LANES;
    int32_t first = 0;
    for (; first + LANES < columns; first += 2 * LANES, weight += 2 * block) {
        __m512i sums[2 * PATCHES];
        two_blocks(x, step, size, weight, weights->bias + first, sums);
        for (int32_t half = 0; half < 2; half++) {
            const int32_t at = first + half * LANES;
            const scaling by = scaling_of(weights, at, columns - at);
            for (int32_t p = 0; p < count; p++) {
                finish(&by, sums[half * PATCHES + p], out + p * columns + at, once);
            }
        }
    }
    if (first < columns) {
        __m512i sums[PATCHES];
        const scaling by = scaling_of(weights, first, columns - first);
        one_block(x, step, size, weight, weights->bias + first, sums);
        for (int32_t p = 0; p < count; p++) {
            finish(&by, sums[p], out + p * columns + first, once);
        }
    }
}

/* int8 as uint8, 128 more: the lowest becomes 0. */
static inline void raised(int8_t *to, const int8_t *from, int32_t n)
{
    const __m512i flip = _mm512_set1_epi8(-128);
    int32_t k = 0;
    for (; k + 64 <= n; k += 64) {
        _mm512_storeu_si512(to + k, _mm512_xor_si512(_mm512_loadu_si512(from + k), flip));
    }
    if (k < n) {
        const __mmask64 inside = ((uint64_t)1 << (n - k)) - 1U;
        const __m512i rest = _mm512_maskz_loadu_epi8(inside, from + k);
        _mm512_mask_storeu_epi8(to + k, inside, _mm512_xor_si512(rest, flip));
    }
}
#else
static inline void block_s8(const eg_weights_s8 *weights, const int8_t *x, int32_t step,
                            int32_t size, int32_t columns, int32_t count, int8_t *out, int once)
{
    for (int32_t p = 0; p < count; p++, x += step, out += columns) {
        const int8_t *weight = weights->weight;
        for (int32_t first = 0; first < columns; first += LANES) {
            const int32_t n = columns - first < LANES ? columns - first : LANES;
            int32_t sums[LANES];
            memcpy(sums, weights->bias + first, sizeof sums);
            for (int32_t k = 0; k < size; k += GROUP) {
                for (int32_t c = 0; c < LANES; c++) {
                    for (int32_t i = 0; i < GROUP; i++, weight++) {
                        sums[c] += (int32_t)(uint8_t)x[k + i] * *weight;
                    }
                }
            }
            for (int32_t c = 0; c < n; c++) {
                const int32_t multiplier = weights->multiplier[first + c];
                const int32_t shift = weights->shift[first + c];
                const int32_t steps = once ? eg_scaled_once(sums[c], multiplier, shift)
                                           : eg_scaled(sums[c], multiplier, shift);
                out[first + c] = eg_bounded(steps + weights->zero, weights->low, weights->high);
            }
        }
    }
}

static inline void raised(int8_t *to, const int8_t *from, int32_t n)
{
    for (int32_t k = 0; k < n; k++) {
        to[k] = (int8_t)(from[k] ^ -128);
    }
}
#endif

static int32_t padded(int32_t n) { return (n + GROUP - 1) / GROUP * GROUP; }

void eg_dense_blocks_s8(const eg_weights_s8 *weights, const int8_t *x, int8_t *out, int32_t rows,
                        int32_t inner, int32_t columns, int8_t *scratch)
{
    const int32_t size = padded(inner);
    memset(scratch, 0, (size_t)(PATCHES * size));
    for (int32_t row = 0; row < rows; row += PATCHES) {
        const int32_t count = rows - row < PATCHES ? rows - row : PATCHES;
        for (int32_t p = 0; p < count; p++) {
            raised(scratch + p * size, x + (row + p) * inner, inner);
        }
        block_s8(weights, scratch, size, size, columns, count, out + row * columns, 1);
    }
}

static void patch_s8(const eg_shape *shape, const int8_t *x, int8_t zero, int32_t top,
                     int32_t left, int8_t *to)
{
    const int32_t channels = shape->channels, width = shape->kernel_width;
    const int whole = shape->dilation_width == 1 && left >= 0 && left + width <= shape->width;
    for (int32_t i = 0; i < shape->kernel_height; i++, to += width * channels) {
        const int32_t row = top + i * shape->dilation_height;
        if (row < 0 || row >= shape->height) {
            memset(to, zero, (size_t)(width * channels));
            continue;
        }
        const int8_t *from = x + row * shape->width * channels;
        if (whole) {
            raised(to, from + left * channels, width * channels);
            continue;
        }
        for (int32_t j = 0; j < width; j++) {
            const int32_t column = left + j * shape->dilation_width;
            if (column < 0 || column >= shape->width) {
                memset(to + j * channels, zero, (size_t)channels);
            } else {
                raised(to + j * channels, from + column * channels, channels);
            }
        }
    }
}

/* Kernels of one row: each row is raised and padded once, and patches are read where they lie. */
static void rows_s8(const eg_shape *shape, const eg_weights_s8 *weights, const int8_t *x,
                    int8_t *out, int8_t *scratch, int32_t size, int8_t zero)
{
    const int32_t channels = shape->channels, columns = shape->out_channels;
    const int32_t step = shape->stride_width * channels;
    const int32_t before = shape->pad_left * channels, line = shape->width * channels;
    const int32_t whole = eg_row_bytes(shape);
    memset(scratch, zero, (size_t)before);
    memset(scratch + before + line, zero, (size_t)(whole - before - line));
    for (int32_t row = 0; row < shape->out_height; row++) {
        raised(scratch + before, x + row * shape->stride_height * line, line);
        for (int32_t place = 0; place < shape->out_width; place += PATCHES) {
            const int32_t left = shape->out_width - place;
            block_s8(weights, scratch + place * step, step, size, columns,
                     left < PATCHES ? left : PATCHES, out, 0);
            out += (left < PATCHES ? left : PATCHES) * columns;
        }
    }
}

void eg_conv_blocks_s8(const eg_shape *shape, const eg_weights_s8 *weights, const int8_t *x,
                       int8_t *out, int8_t *scratch)
{
    const int32_t size = padded(shape->kernel_height * shape->kernel_width * shape->channels);
    const int32_t places = shape->out_height * shape->out_width;
    const int8_t zero = (int8_t)(weights->x_zero ^ -128);
    if (shape->kernel_height == 1 && shape->dilation_width == 1 && shape->pad_top == 0) {
        rows_s8(shape, weights, x, out, scratch, size, zero);
        return;
    }
    memset(scratch, 0, (size_t)(PATCHES * size));
    for (int32_t place = 0; place < places; place += PATCHES) {
        const int32_t count = places - place < PATCHES ? places - place : PATCHES;
        for (int32_t p = 0; p < count; p++) {
            const int32_t row = (place + p) / shape->out_width;
            const int32_t column = (place + p) % shape->out_width;
            patch_s8(shape, x, zero, row * shape->stride_height - shape->pad_top,
                     column * shape->stride_width - shape->pad_left, scratch + p * size);
        }
        block_s8(weights, scratch, size, size, shape->out_channels, count,
                 out + place * shape->out_channels, 0);
    }
}

void eg_depthwise_blocks_s8(const eg_shape *shape, const eg_weights_s8 *weights, const int8_t *x,
                            int8_t *out)
{
#if defined(__AVX512VNNI__) && defined(__AVX512BW__) && defined(__AVX512VL__)
    const int32_t channels = shape->channels;
    const __m512i x_zero = _mm512_set1_epi32(weights->x_zero);
    for (int32_t first = 0; first < channels; first += LANES) {
        const scaling by = scaling_of(weights, first, channels - first);
        const __m512i bias = _mm512_loadu_si512(weights->bias + first);
        int8_t *to = out + first;
        for (int32_t row = 0; row < shape->out_height; row++) {
            const int32_t top = row * shape->stride_height - shape->pad_top;
            for (int32_t column = 0; column < shape->out_width; column++, to += channels) {
                const int32_t left = column * shape->stride_width - shape->pad_left;
                __m512i sums = bias;
                for (int32_t i = 0; i < shape->kernel_height; i++) {
                    const int32_t y = top + i * shape->dilation_height;
                    for (int32_t j = 0; j < shape->kernel_width; j++) {
                        const int32_t z = left + j * shape->dilation_width;
                        if (y < 0 || y >= shape->height || z < 0 || z >= shape->width) {
                            continue;
                        }
                        const int32_t tap = (i * shape->kernel_width + j) * channels + first;
                        const int32_t at = (y * shape->width + z) * channels + first;
                        const __m512i seen = _mm512_cvtepi8_epi32(
                            _mm_maskz_loadu_epi8(by.given, x + at));
                        const __m512i weight = _mm512_cvtepi8_epi32(
                            _mm_maskz_loadu_epi8(by.given, weights->weight + tap));
                        sums = _mm512_add_epi32(
                            sums, _mm512_mullo_epi32(_mm512_sub_epi32(seen, x_zero), weight));
                    }
                }
                finish(&by, sums, to, 0);
            }
        }
    }
#else
    eg_depthwise_s8(shape, weights, x, out);
#endif
}
