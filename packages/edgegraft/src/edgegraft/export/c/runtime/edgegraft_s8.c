/* Int8 kernels: the same bits as edgegraft_edge.integer. */
#include "edgegraft.h"

#include <string.h>

#define BLOCK 16

/* A sum of one output channel as int8: matrices round once, convolutions twice. */
static inline int8_t finished(const eg_weights_s8 *weights, int32_t channel, int32_t sum, int once)
{
    const int32_t multiplier = weights->multiplier[channel], shift = weights->shift[channel];
    const int32_t steps =
        once ? eg_scaled_once(sum, multiplier, shift) : eg_scaled(sum, multiplier, shift);
    return eg_bounded(steps + weights->zero, weights->low, weights->high);
}

/* Two patches (`inner` values each) times the rows of weights, as int8. */
static inline void rows_s8(const eg_weights_s8 *weights, const int8_t *a, const int8_t *b,
                           int32_t inner, int32_t first, int32_t columns, int8_t *out_a,
                           int8_t *out_b, int once)
{
    const int8_t *weight = weights->weight + first * inner;
    for (int32_t c = 0; c < columns; c++, weight += inner) {
        const int32_t at = first + c;
        int32_t sum_a = weights->bias[at], sum_b = sum_a;
        for (int32_t k = 0; k < inner; k++) {
            const int16_t factor = weight[k];
            sum_a += (int32_t)a[k] * factor;
            sum_b += (int32_t)b[k] * factor;
        }
        out_a[c] = finished(weights, at, sum_a, once);
        out_b[c] = finished(weights, at, sum_b, once);
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
                for (int32_t c = 0; c < width; c++) {
                    out[first + c] = finished(weights, first + c, sums[c], 0);
                }
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
