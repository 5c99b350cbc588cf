/* Int8 kernels: the same bits as edgegraft_edge.integer. */
#include "edgegraft.h"

#include <string.h>

#define BLOCK 16

/* PRODUCTS: sums of products of two patches with ROWS rows of weights at once, added to
 * sums_a[0..ROWS) and sums_b[0..ROWS). All ways of it give the same integers. */
#if defined(__AVX2__)
#include <immintrin.h>
#define ROWS 4

#if defined(__AVX512VNNI__) && defined(__AVX512VL__)
#define MULTIPLY_ADD(sum, x, w) _mm256_dpwssd_epi32(sum, x, w)
#else
#define MULTIPLY_ADD(sum, x, w) _mm256_add_epi32(sum, _mm256_madd_epi16(x, w))
#endif

static inline __m256i widened(const int8_t *x)
{
    return _mm256_cvtepi8_epi16(_mm_loadu_si128((const __m128i *)(const void *)x));
}

static inline void add_sums(__m256i s0, __m256i s1, __m256i s2, __m256i s3, int32_t *sums)
{
    const __m256i four = _mm256_hadd_epi32(_mm256_hadd_epi32(s0, s1), _mm256_hadd_epi32(s2, s3));
    __m128i *to = (__m128i *)(void *)sums;
    const __m128i found =
        _mm_add_epi32(_mm256_castsi256_si128(four), _mm256_extracti128_si256(four, 1));
    _mm_storeu_si128(to, _mm_add_epi32(_mm_loadu_si128(to), found));
}

static inline int32_t products(const int8_t *a, const int8_t *b, const int8_t *w, int32_t inner,
                               int32_t *sums_a, int32_t *sums_b)
{
    const int8_t *w1 = w + inner, *w2 = w1 + inner, *w3 = w2 + inner;
    __m256i a0 = _mm256_setzero_si256(), a1 = a0, a2 = a0, a3 = a0;
    __m256i b0 = a0, b1 = a0, b2 = a0, b3 = a0;
    int32_t k = 0;
    for (; k + 16 <= inner; k += 16) {
        const __m256i x = widened(a + k), y = widened(b + k);
        __m256i row = widened(w + k);
        a0 = MULTIPLY_ADD(a0, x, row);
        b0 = MULTIPLY_ADD(b0, y, row);
        row = widened(w1 + k);
        a1 = MULTIPLY_ADD(a1, x, row);
        b1 = MULTIPLY_ADD(b1, y, row);
        row = widened(w2 + k);
        a2 = MULTIPLY_ADD(a2, x, row);
        b2 = MULTIPLY_ADD(b2, y, row);
        row = widened(w3 + k);
        a3 = MULTIPLY_ADD(a3, x, row);
        b3 = MULTIPLY_ADD(b3, y, row);
    }
    add_sums(a0, a1, a2, a3, sums_a);
    add_sums(b0, b1, b2, b3, sums_b);
    return k;
}
#elif defined(__ARM_FEATURE_MVE) && (__ARM_FEATURE_MVE & 1)
#include <arm_mve.h>
#define ROWS 2

static inline int32_t products(const int8_t *a, const int8_t *b, const int8_t *w, int32_t inner,
                               int32_t *sums_a, int32_t *sums_b)
{
    const int8_t *w1 = w + inner;
    int32_t a0 = 0, a1 = 0, b0 = 0, b1 = 0;
    for (int32_t block = inner / 16; block > 0; block--) {
        const int8x16_t x = vldrbq_s8(a), y = vldrbq_s8(b);
        const int8x16_t row = vldrbq_s8(w), next = vldrbq_s8(w1);
        a0 = vmladavaq_s8(a0, x, row);
        b0 = vmladavaq_s8(b0, y, row);
        a1 = vmladavaq_s8(a1, x, next);
        b1 = vmladavaq_s8(b1, y, next);
        a += 16;
        b += 16;
        w += 16;
        w1 += 16;
    }
    if (inner % 16 != 0) {
        const mve_pred16_t inside = vctp8q((uint32_t)(inner % 16));
        const int8x16_t x = vldrbq_z_s8(a, inside), y = vldrbq_z_s8(b, inside);
        const int8x16_t row = vldrbq_z_s8(w, inside), next = vldrbq_z_s8(w1, inside);
        a0 = vmladavaq_s8(a0, x, row);
        b0 = vmladavaq_s8(b0, y, row);
        a1 = vmladavaq_s8(a1, x, next);
        b1 = vmladavaq_s8(b1, y, next);
    }
    sums_a[0] += a0;
    sums_a[1] += a1;
    sums_b[0] += b0;
    sums_b[1] += b1;
    return inner;
}
#elif defined(__ARM_FEATURE_DSP) && defined(__ARM_FEATURE_SIMD32)
#include <arm_acle.h>
#define ROWS 2

static inline uint32_t four(const int8_t *x)
{
    uint32_t word;
    memcpy(&word, x, sizeof word);
    return word;
}

/* Bytes 0 and 2 of four as pairs of 16 bits, and bytes 1 and 3. */
static inline int16x2_t even(uint32_t word) { return __sxtb16((int8x4_t)word); }

static inline int16x2_t odd(uint32_t word)
{
#if defined(__GNUC__)
    uint32_t pair; /* one instruction, which compilers do not find by themselves */
    __asm__("sxtb16 %0, %1, ror #8" : "=r"(pair) : "r"(word));
    return (int16x2_t)pair;
#else
    return __sxtb16((int8x4_t)(word >> 8 | word << 24));
#endif
}

static inline int32_t products(const int8_t *a, const int8_t *b, const int8_t *w, int32_t inner,
                               int32_t *sums_a, int32_t *sums_b)
{
    const int8_t *w1 = w + inner;
    int32_t a0 = 0, a1 = 0, b0 = 0, b1 = 0;
    for (const int8_t *end = a + inner / 4 * 4; a != end;) {
        const uint32_t row = four(w), next = four(w1);
        const int16x2_t r0 = even(row), r1 = odd(row), n0 = even(next), n1 = odd(next);
        uint32_t seen = four(a);
        int16x2_t x = even(seen);
        a0 = __smlad(x, r0, a0);
        a1 = __smlad(x, n0, a1);
        x = odd(seen);
        a0 = __smlad(x, r1, a0);
        a1 = __smlad(x, n1, a1);
        seen = four(b);
        x = even(seen);
        b0 = __smlad(x, r0, b0);
        b1 = __smlad(x, n0, b1);
        x = odd(seen);
        b0 = __smlad(x, r1, b0);
        b1 = __smlad(x, n1, b1);
        a += 4;
        b += 4;
        w += 4;
        w1 += 4;
    }
    sums_a[0] += a0;
    sums_a[1] += a1;
    sums_b[0] += b0;
    sums_b[1] += b1;
    return inner / 4 * 4;
}
#else
#define ROWS 2

static inline int32_t products(const int8_t *a, const int8_t *b, const int8_t *w, int32_t inner,
                               int32_t *sums_a, int32_t *sums_b)
{
    const int8_t *w1 = w + inner;
    int32_t a0 = 0, a1 = 0, b0 = 0, b1 = 0;
    for (int32_t k = 0; k < inner; k++) {
        const int16_t x = a[k], y = b[k], row = w[k], next = w1[k];
        a0 += (int32_t)x * row;
        b0 += (int32_t)y * row;
        a1 += (int32_t)x * next;
        b1 += (int32_t)y * next;
    }
    sums_a[0] += a0;
    sums_a[1] += a1;
    sums_b[0] += b0;
    sums_b[1] += b1;
    return inner;
}
#endif

/* One patch times one row, from `k` on. */
static inline int32_t product(const int8_t *x, const int8_t *w, int32_t k, int32_t inner)
{
    int32_t sum = 0;
    for (; k < inner; k++) {
        sum += (int32_t)x[k] * w[k];
    }
    return sum;
}

/* Sums of output channels `first`.. as int8: matrices round once, convolutions twice. */
static inline void finish(const eg_weights_s8 *weights, int32_t first, int32_t n,
                          const int32_t *sums, int8_t *out, int once)
{
    const int32_t *multiplier = weights->multiplier + first;
    const int8_t *shift = weights->shift + first;
    const int32_t zero = weights->zero, low = weights->low, high = weights->high;
    for (int32_t c = 0; c < n; c++) {
        const int32_t steps = once ? eg_scaled_once(sums[c], multiplier[c], shift[c])
                                   : eg_scaled(sums[c], multiplier[c], shift[c]);
        out[c] = eg_bounded(steps + zero, low, high);
    }
}

/* Two patches (`inner` values each) times the rows of weights, as int8. */
static inline void rows_s8(const eg_weights_s8 *weights, const int8_t *a, const int8_t *b,
                           int32_t inner, int32_t first, int32_t columns, int8_t *out_a,
                           int8_t *out_b, int once)
{
    const int8_t *weight = weights->weight + first * inner;
    const int32_t end = first + columns;
    for (; first < end; first += BLOCK, out_a += BLOCK, out_b += BLOCK) {
        int32_t sums_a[BLOCK], sums_b[BLOCK];
        const int32_t n = end - first < BLOCK ? end - first : BLOCK;
        memcpy(sums_a, weights->bias + first, (size_t)n * sizeof(int32_t));
        memcpy(sums_b, weights->bias + first, (size_t)n * sizeof(int32_t));
        int32_t c = 0;
        for (; c + ROWS <= n; c += ROWS) {
            const int32_t done = products(a, b, weight, inner, sums_a + c, sums_b + c);
            for (int32_t row = 0; row < ROWS && done < inner; row++) {
                sums_a[c + row] += product(a, weight + row * inner, done, inner);
                sums_b[c + row] += product(b, weight + row * inner, done, inner);
            }
            weight += ROWS * inner;
        }
        for (; c < n; c++, weight += inner) {
            sums_a[c] += product(a, weight, 0, inner);
            sums_b[c] += product(b, weight, 0, inner);
        }
        finish(weights, first, n, sums_a, out_a, once);
        if (out_b != out_a) {
            finish(weights, first, n, sums_b, out_b, once);
        }
    }
}

void eg_dense_s8(const eg_weights_s8 *weights, const int8_t *x, int8_t *out, int32_t rows,
                 int32_t inner, int32_t columns)
{
    for (int32_t row = 0; row < rows; row += 2) {
        const int32_t other = row + 1 < rows ? row + 1 : row;
        rows_s8(weights, x + row * inner, x + other * inner, inner, 0, columns,
                out + row * columns, out + other * columns, 1);
    }
}

/* The patch of one output place, where it lies or copied to scratch, padded with the zero point. */
static const int8_t *patch_s8(const eg_shape *shape, const int8_t *x, int32_t zero, int32_t top,
                              int32_t left, int32_t inner, int8_t *scratch)
{
    const int32_t height = shape->kernel_height, width = shape->kernel_width;
    const int32_t channels = shape->channels;
    const int dense = inner == channels && (width == 1 || shape->dilation_width == 1);
    if (dense && left >= 0 && left + width <= shape->width) {
        if (height == 1 && top >= 0 && top < shape->height) {
            return x + (top * shape->width + left) * channels;
        }
    }
    int8_t *to = scratch;
    for (int32_t i = 0; i < height; i++) {
        const int32_t row = top + i * shape->dilation_height;
        if (row < 0 || row >= shape->height) {
            memset(to, zero, (size_t)(width * inner));
            to += width * inner;
            continue;
        }
        const int8_t *from = x + row * shape->width * channels;
        if (dense && left >= 0 && left + width <= shape->width) {
            memcpy(to, from + left * channels, (size_t)(width * inner));
            to += width * inner;
            continue;
        }
        for (int32_t j = 0; j < width; j++, to += inner) {
            const int32_t column = left + j * shape->dilation_width;
            if (column < 0 || column >= shape->width) {
                memset(to, zero, (size_t)inner);
            } else {
                memcpy(to, from + column * channels, (size_t)inner);
            }
        }
    }
    return scratch;
}

void eg_conv_s8(const eg_shape *shape, const eg_weights_s8 *weights, const int8_t *x, int8_t *out,
                int8_t *scratch)
{
    const int32_t inner = shape->channels / shape->groups;
    const int32_t columns = shape->out_channels / shape->groups;
    const int32_t size = shape->kernel_height * shape->kernel_width * inner;
    const int32_t places = shape->out_height * shape->out_width;
    for (int32_t place = 0; place < places; place += 2) {
        const int32_t other = place + 1 < places ? place + 1 : place;
        const int32_t top = place / shape->out_width * shape->stride_height - shape->pad_top;
        const int32_t left = place % shape->out_width * shape->stride_width - shape->pad_left;
        const int32_t other_top = other / shape->out_width * shape->stride_height - shape->pad_top;
        const int32_t other_left = other % shape->out_width * shape->stride_width - shape->pad_left;
        for (int32_t group = 0; group < shape->groups; group++) {
            const int8_t *seen = x + group * inner;
            const int8_t *a =
                patch_s8(shape, seen, weights->x_zero, top, left, inner, scratch);
            const int8_t *b = a;
            if (other != place) {
                b = patch_s8(shape, seen, weights->x_zero, other_top, other_left, inner,
                             scratch == 0 ? scratch : scratch + size);
            }
            rows_s8(weights, a, b, size, group * columns, columns,
                    out + place * shape->out_channels + group * columns,
                    out + other * shape->out_channels + group * columns, 0);
        }
    }
}

void eg_depthwise_s8(const eg_shape *shape, const eg_weights_s8 *weights, const int8_t *x,
                     int8_t *out)
{
    const int32_t channels = shape->channels;
    for (int32_t row = 0; row < shape->out_height; row++) {
        const int32_t top = row * shape->stride_height - shape->pad_top;
        for (int32_t column = 0; column < shape->out_width; column++, out += channels) {
            const int32_t left = column * shape->stride_width - shape->pad_left;
            for (int32_t first = 0; first < channels; first += BLOCK) {
                int32_t sums[BLOCK];
                const int32_t width = channels - first < BLOCK ? channels - first : BLOCK;
                for (int32_t c = 0; c < width; c++) {
                    sums[c] = weights->bias[first + c];
                }
                for (int32_t i = 0; i < shape->kernel_height; i++) {
                    const int32_t y = top + i * shape->dilation_height;
                    for (int32_t j = 0; j < shape->kernel_width; j++) {
                        const int32_t z = left + j * shape->dilation_width;
                        if (y < 0 || y >= shape->height || z < 0 || z >= shape->width) {
                            continue;
                        }
                        const int8_t *seen = x + (y * shape->width + z) * channels + first;
                        const int8_t *tap = weights->weight +
                                            (i * shape->kernel_width + j) * channels + first;
                        for (int32_t c = 0; c < width; c++) {
                            sums[c] += ((int32_t)seen[c] - weights->x_zero) * tap[c];
                        }
                    }
                }
                finish(weights, first, width, sums, out + first, 0);
            }
        }
    }
}

void eg_max_pool_s8(const eg_shape *shape, const int8_t *x, int8_t *out)
{
    const int32_t channels = shape->channels;
    for (int32_t row = 0; row < shape->out_height; row++) {
        const int32_t top = row * shape->stride_height - shape->pad_top;
        for (int32_t column = 0; column < shape->out_width; column++, out += channels) {
            const int32_t left = column * shape->stride_width - shape->pad_left;
            memset(out, -128, (size_t)channels);
            for (int32_t i = 0; i < shape->kernel_height; i++) {
                for (int32_t j = 0; j < shape->kernel_width; j++) {
                    const int32_t y = top + i, z = left + j;
                    if (y < 0 || y >= shape->height || z < 0 || z >= shape->width) {
                        continue;
                    }
                    const int8_t *seen = x + (y * shape->width + z) * channels;
                    for (int32_t c = 0; c < channels; c++) {
                        out[c] = seen[c] > out[c] ? seen[c] : out[c];
                    }
                }
            }
        }
    }
}

void eg_average_pool_s8(const eg_shape *shape, const int8_t *x, int8_t *out, int32_t low,
                        int32_t high)
{
    const int32_t channels = shape->channels;
    for (int32_t row = 0; row < shape->out_height; row++) {
        const int32_t top = row * shape->stride_height - shape->pad_top;
        for (int32_t column = 0; column < shape->out_width; column++, out += channels) {
            const int32_t left = column * shape->stride_width - shape->pad_left;
            for (int32_t c = 0; c < channels; c++) {
                int32_t sum = 0, count = 0;
                for (int32_t i = 0; i < shape->kernel_height; i++) {
                    for (int32_t j = 0; j < shape->kernel_width; j++) {
                        const int32_t y = top + i, z = left + j;
                        if (y < 0 || y >= shape->height || z < 0 || z >= shape->width) {
                            continue;
                        }
                        sum += x[(y * shape->width + z) * channels + c];
                        count++;
                    }
                }
                count = count > 0 ? count : 1;
                const int32_t mean =
                    sum >= 0 ? (sum + count / 2) / count : -((-sum + count / 2) / count);
                out[c] = eg_bounded(mean, low, high);
            }
        }
    }
}

void eg_softmax_s8(const int8_t *x, int8_t *out, const int32_t *table, int32_t rows, int32_t n)
{
    for (int32_t row = 0; row < rows; row++, x += n, out += n) {
        int32_t best = x[0];
        for (int32_t k = 1; k < n; k++) {
            best = x[k] > best ? x[k] : best;
        }
        uint32_t total = 0U;
        for (int32_t k = 0; k < n; k++) {
            total += (uint32_t)table[best - x[k]];
        }
        for (int32_t k = 0; k < n; k++) {
            const uint32_t part = (uint32_t)table[best - x[k]];
            out[k] = eg_bounded((int32_t)((part * 256U + total / 2U) / total) - 128, -128, 127);
        }
    }
}

void eg_sort_s8(int8_t *x, int32_t rows, int32_t n)
{
    for (int32_t row = 0; row < rows; row++, x += n) {
        uint32_t counts[256] = {0U};
        for (int32_t k = 0; k < n; k++) {
            counts[x[k] + 128]++;
        }
        int32_t place = 0;
        for (int32_t value = 0; value < 256; value++) {
            for (uint32_t k = 0U; k < counts[value]; k++) {
                x[place++] = (int8_t)(value - 128);
            }
        }
    }
}

void eg_gather(const void *x, void *out, const int32_t *index, int32_t outer, int32_t n_in,
               int32_t n_out, int32_t size)
{
    const uint8_t *from = x;
    uint8_t *to = out;
    for (int32_t i = 0; i < outer; i++, from += n_in * size) {
        for (int32_t k = 0; k < n_out; k++, to += size) {
            memcpy(to, from + index[k] * size, (size_t)size);
        }
    }
}
