/* Int8 convolutions and matrices with weights in blocks of 16 output channels by 4 values, for
 * processors with dot products of 4 bytes in every lane. The same bits as edgegraft_s8.c. */
#include "edgegraft.h"

#include <string.h>

#define LANES EG_LANES
#define GROUP 4
#define PATCHES EG_PATCHES

#if defined(__AVX512VNNI__) && defined(__AVX512BW__) && defined(__AVX512VL__)
#include <immintrin.h>

/* 16 sums as int8. */
static inline void finish(const eg_weights_s8 *weights, int32_t first, int32_t n, __m512i sums,
                          int8_t *out, int once)
{
    const __m512i none = _mm512_setzero_si512(), unit = _mm512_set1_epi32(1);
    const __m512i multiplier = _mm512_loadu_si512(weights->multiplier + first);
    const __m512i shift = _mm512_cvtepi8_epi32(
        _mm_loadu_si128((const __m128i *)(const void *)(weights->shift + first)));
    const __m512i upper = _mm512_srli_epi64(multiplier, 32);
    __m512i rounded;
    __mmask16 negative;
    if (once) {
        const __m512i right = _mm512_sub_epi32(_mm512_set1_epi32(31), shift);
        const __m512i even = _mm512_and_si512(right, _mm512_set1_epi64(0xFFFFFFFF));
        const __m512i odd = _mm512_srli_epi64(right, 32);
        const __m512i one = _mm512_set1_epi64(1), size = _mm512_abs_epi32(sums);
        __m512i low = _mm512_mul_epu32(size, multiplier);
        __m512i high = _mm512_mul_epu32(_mm512_srli_epi64(size, 32), upper);
        low = _mm512_add_epi64(low, _mm512_srli_epi64(_mm512_sllv_epi64(one, even), 1));
        high = _mm512_add_epi64(high, _mm512_srli_epi64(_mm512_sllv_epi64(one, odd), 1));
        high = _mm512_slli_epi64(_mm512_srlv_epi64(high, odd), 32);
        rounded = _mm512_mask_blend_epi32(0xAAAA, _mm512_srlv_epi64(low, even), high);
        negative = _mm512_movepi32_mask(sums);
    } else {
        const __m512i half = _mm512_set1_epi64((int64_t)1 << 30);
        const __m512i x = _mm512_sllv_epi32(sums, _mm512_max_epi32(shift, none));
        const __m512i right = _mm512_max_epi32(_mm512_sub_epi32(none, shift), none);
        const __m512i low = _mm512_add_epi64(_mm512_mul_epi32(x, multiplier), half);
        const __m512i high =
            _mm512_add_epi64(_mm512_mul_epi32(_mm512_srli_epi64(x, 32), upper), half);
        const __m512i steps = _mm512_mask_blend_epi32(0xAAAA, _mm512_srli_epi64(low, 31),
                                                      _mm512_slli_epi64(high, 1));
        const __m512i more = _mm512_srli_epi32(_mm512_sllv_epi32(unit, right), 1);
        rounded = _mm512_srlv_epi32(_mm512_add_epi32(_mm512_abs_epi32(steps), more), right);
        negative = _mm512_movepi32_mask(steps);
    }
    rounded = _mm512_mask_sub_epi32(rounded, negative, none, rounded);
    rounded = _mm512_add_epi32(rounded, _mm512_set1_epi32(weights->zero));
    rounded = _mm512_max_epi32(rounded, _mm512_set1_epi32(weights->low));
    rounded = _mm512_min_epi32(rounded, _mm512_set1_epi32(weights->high));
    const __mmask16 given = (__mmask16)((n >= LANES) ? 0xFFFF : ((1 << n) - 1));
    _mm_mask_storeu_epi8(out, given, _mm512_cvtepi32_epi8(rounded));
}

static inline __m512i spread(const int8_t *x)
{
    int32_t word;
    memcpy(&word, x, sizeof word);
    return _mm512_set1_epi32(word);
}

/* PATCHES patches, `size` bytes each, times all weights; `count` of the results are kept. */
static inline void block_s8(const eg_weights_s8 *weights, const int8_t *x, int32_t size,
                            int32_t columns, int32_t count, int8_t *out, int once)
{
    const int8_t *weight = weights->weight;
    for (int32_t first = 0; first < columns; first += LANES) {
        __m512i s0 = _mm512_loadu_si512(weights->bias + first);
        __m512i s1 = s0, s2 = s0, s3 = s0, s4 = s0, s5 = s0, s6 = s0, s7 = s0;
        const int8_t *seen = x;
        for (int32_t k = 0; k < size; k += GROUP, seen += GROUP, weight += LANES * GROUP) {
            const __m512i row = _mm512_loadu_si512(weight);
            s0 = _mm512_dpbusd_epi32(s0, spread(seen), row);
            s1 = _mm512_dpbusd_epi32(s1, spread(seen + size), row);
            s2 = _mm512_dpbusd_epi32(s2, spread(seen + 2 * size), row);
            s3 = _mm512_dpbusd_epi32(s3, spread(seen + 3 * size), row);
            s4 = _mm512_dpbusd_epi32(s4, spread(seen + 4 * size), row);
            s5 = _mm512_dpbusd_epi32(s5, spread(seen + 5 * size), row);
            s6 = _mm512_dpbusd_epi32(s6, spread(seen + 6 * size), row);
            s7 = _mm512_dpbusd_epi32(s7, spread(seen + 7 * size), row);
        }
        const __m512i sums[PATCHES] = {s0, s1, s2, s3, s4, s5, s6, s7};
        for (int32_t p = 0; p < count; p++) {
            finish(weights, first, columns - first, sums[p], out + p * columns + first, once);
        }
    }
}
#else
static inline void block_s8(const eg_weights_s8 *weights, const int8_t *x, int32_t size,
                            int32_t columns, int32_t count, int8_t *out, int once)
{
    for (int32_t p = 0; p < count; p++, x += size, out += columns) {
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
#endif

/* int8 as uint8, 128 more: the lowest becomes 0. */
static inline void raised(int8_t *to, const int8_t *from, int32_t n)
{
    for (int32_t k = 0; k < n; k++) {
        to[k] = (int8_t)(from[k] ^ -128);
    }
}

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
        block_s8(weights, scratch, size, columns, count, out + row * columns, 1);
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

void eg_conv_blocks_s8(const eg_shape *shape, const eg_weights_s8 *weights, const int8_t *x,
                       int8_t *out, int8_t *scratch)
{
    const int32_t size = padded(shape->kernel_height * shape->kernel_width * shape->channels);
    const int32_t places = shape->out_height * shape->out_width;
    const int8_t zero = (int8_t)(weights->x_zero ^ -128);
    memset(scratch, 0, (size_t)(PATCHES * size));
    for (int32_t place = 0; place < places; place += PATCHES) {
        const int32_t count = places - place < PATCHES ? places - place : PATCHES;
        for (int32_t p = 0; p < count; p++) {
            const int32_t row = (place + p) / shape->out_width;
            const int32_t column = (place + p) % shape->out_width;
            patch_s8(shape, x, zero, row * shape->stride_height - shape->pad_top,
                     column * shape->stride_width - shape->pad_left, scratch + p * size);
        }
        block_s8(weights, scratch, size, shape->out_channels, count,
                 out + place * shape->out_channels, 0);
    }
}
