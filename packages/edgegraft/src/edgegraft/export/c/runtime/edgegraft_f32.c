/* Float kernels. Sums run over a block of output channels at once, so that compilers can use
 * vector registers without reordering any sum. */
#include "edgegraft.h"

#include <string.h>

#define BLOCK 16

void eg_matmul_f32(const float *a, int32_t stride, const float *b, float *out, int32_t rows,
                   int32_t inner, int32_t columns)
{
    for (int32_t row = 0; row < rows; row++) {
        const float *x = a + row * stride;
        float *found = out + row * columns;
        for (int32_t first = 0; first < columns; first += BLOCK) {
            float sums[BLOCK] = {0.0f};
            const int32_t width = columns - first < BLOCK ? columns - first : BLOCK;
            const float *weight = b + first;
            if (width == BLOCK) {
                for (int32_t k = 0; k < inner; k++, weight += columns) {
                    const float value = x[k];
                    for (int32_t j = 0; j < BLOCK; j++) {
                        sums[j] += value * weight[j];
                    }
                }
            } else {
                for (int32_t k = 0; k < inner; k++, weight += columns) {
                    const float value = x[k];
                    for (int32_t j = 0; j < width; j++) {
                        sums[j] += value * weight[j];
                    }
                }
            }
            memcpy(found + first, sums, (size_t)width * sizeof(float));
        }
    }
}

/* What one patch gives to `width` output channels of a group. */
static void patch_f32(const eg_shape *shape, const float *weight, const float *x, int32_t top,
                      int32_t left, int32_t inner, int32_t columns, int32_t width, float *sums)
{
    for (int32_t i = 0; i < shape->kernel_height; i++) {
        const int32_t row = top + i * shape->dilation_height;
        if (row < 0 || row >= shape->height) {
            continue;
        }
        for (int32_t j = 0; j < shape->kernel_width; j++) {
            const int32_t column = left + j * shape->dilation_width;
            if (column < 0 || column >= shape->width) {
                continue;
            }
            const float *seen = x + (row * shape->width + column) * shape->channels;
            const float *tap = weight + (i * shape->kernel_width + j) * inner * columns;
            if (width == BLOCK) {
                for (int32_t k = 0; k < inner; k++, tap += columns) {
                    const float value = seen[k];
                    for (int32_t c = 0; c < BLOCK; c++) {
                        sums[c] += value * tap[c];
                    }
                }
            } else {
                for (int32_t k = 0; k < inner; k++, tap += columns) {
                    const float value = seen[k];
                    for (int32_t c = 0; c < width; c++) {
                        sums[c] += value * tap[c];
                    }
                }
            }
        }
    }
}

void eg_conv_f32(const eg_shape *shape, const float *weight, const float *bias, const float *x,
                 float *out)
{
    const int32_t inner = shape->channels / shape->groups;
    const int32_t columns = shape->out_channels / shape->groups;
    const int32_t taps = shape->kernel_height * shape->kernel_width;
    for (int32_t row = 0; row < shape->out_height; row++) {
        const int32_t top = row * shape->stride_height - shape->pad_top;
        for (int32_t column = 0; column < shape->out_width; column++) {
            const int32_t left = column * shape->stride_width - shape->pad_left;
            for (int32_t group = 0; group < shape->groups; group++) {
                const float *kernel = weight + group * taps * inner * columns;
                for (int32_t first = 0; first < columns; first += BLOCK) {
                    float sums[BLOCK] = {0.0f};
                    const int32_t width = columns - first < BLOCK ? columns - first : BLOCK;
                    patch_f32(shape, kernel + first, x + group * inner, top, left, inner, columns,
                              width, sums);
                    const int32_t at = group * columns + first;
                    for (int32_t c = 0; c < width; c++) {
                        out[at + c] = sums[c] + bias[at + c];
                    }
                }
            }
            out += shape->out_channels;
        }
    }
}

void eg_depthwise_f32(const eg_shape *shape, const float *weight, const float *bias,
                      const float *x, float *out)
{
    const int32_t channels = shape->channels;
    for (int32_t row = 0; row < shape->out_height; row++) {
        const int32_t top = row * shape->stride_height - shape->pad_top;
        for (int32_t column = 0; column < shape->out_width; column++) {
            const int32_t left = column * shape->stride_width - shape->pad_left;
            memcpy(out, bias, (size_t)channels * sizeof(float));
            for (int32_t i = 0; i < shape->kernel_height; i++) {
                const int32_t y = top + i * shape->dilation_height;
                for (int32_t j = 0; j < shape->kernel_width; j++) {
                    const int32_t z = left + j * shape->dilation_width;
                    if (y < 0 || y >= shape->height || z < 0 || z >= shape->width) {
                        continue;
                    }
                    const float *seen = x + (y * shape->width + z) * channels;
                    const float *tap = weight + (i * shape->kernel_width + j) * channels;
                    for (int32_t c = 0; c < channels; c++) {
                        out[c] += seen[c] * tap[c];
                    }
                }
            }
            out += channels;
        }
    }
}

void eg_max_pool_f32(const eg_shape *shape, const float *x, float *out)
{
    const int32_t channels = shape->channels;
    for (int32_t row = 0; row < shape->out_height; row++) {
        const int32_t top = row * shape->stride_height - shape->pad_top;
        for (int32_t column = 0; column < shape->out_width; column++) {
            const int32_t left = column * shape->stride_width - shape->pad_left;
            for (int32_t c = 0; c < channels; c++) {
                out[c] = -INFINITY;
            }
            for (int32_t i = 0; i < shape->kernel_height; i++) {
                for (int32_t j = 0; j < shape->kernel_width; j++) {
                    const int32_t y = top + i, z = left + j;
                    if (y < 0 || y >= shape->height || z < 0 || z >= shape->width) {
                        continue;
                    }
                    const float *seen = x + (y * shape->width + z) * channels;
                    for (int32_t c = 0; c < channels; c++) {
                        out[c] = eg_maximum(out[c], seen[c]);
                    }
                }
            }
            out += channels;
        }
    }
}

void eg_softmax_f32(const float *x, float *out, int32_t outer, int32_t n, int32_t inner)
{
    for (int32_t i = 0; i < outer; i++) {
        for (int32_t j = 0; j < inner; j++) {
            const float *from = x + i * n * inner + j;
            float *to = out + i * n * inner + j;
            float best = from[0];
            for (int32_t k = 1; k < n; k++) {
                best = eg_maximum(best, from[k * inner]);
            }
            float total = 0.0f;
            for (int32_t k = 0; k < n; k++) {
                to[k * inner] = expf(from[k * inner] - best);
                total += to[k * inner];
            }
            for (int32_t k = 0; k < n; k++) {
                to[k * inner] /= total;
            }
        }
    }
}

/* Lets the value at `place` sink in the heap x[0..n). */
static void sink_f32(float *x, int32_t place, int32_t n)
{
    const float value = x[place];
    for (int32_t child = 2 * place + 1; child < n; child = 2 * place + 1) {
        if (child + 1 < n && x[child] < x[child + 1]) {
            child++;
        }
        if (!(value < x[child])) {
            break;
        }
        x[place] = x[child];
        place = child;
    }
    x[place] = value;
}

void eg_sort_f32(float *x, int32_t rows, int32_t n)
{
    for (int32_t row = 0; row < rows; row++, x += n) {
        for (int32_t place = n / 2 - 1; place >= 0; place--) {
            sink_f32(x, place, n);
        }
        for (int32_t last = n - 1; last > 0; last--) {
            const float most = x[0];
            x[0] = x[last];
            x[last] = most;
            sink_f32(x, 0, last);
        }
    }
}

void eg_lookup_f32(const float *ids, const float *table, float *out, int32_t n, int32_t n_rows,
                   int32_t dim)
{
    for (int32_t i = 0; i < n; i++) {
        const float most = (float)n_rows;
        int32_t row = 0;
        if (ids[i] < most && ids[i] > -most - 1.0f) {
            row = (int32_t)ids[i];
        }
        row = row < 0 ? row + n_rows : row;
        row = row < 0 ? 0 : (row >= n_rows ? n_rows - 1 : row);
        memcpy(out + i * dim, table + row * dim, (size_t)dim * sizeof(float));
    }
}

void eg_trees_f32(const float *x, const eg_node *nodes, const uint32_t *roots,
                  const uint32_t *leaves, int32_t n_trees, const float *values,
                  int32_t n_outputs, float *out)
{
    for (int32_t j = 0; j < n_outputs; j++) {
        out[j] = 0.0f;
    }
    for (int32_t tree = 0; tree < n_trees; tree++) {
        const eg_node *node = nodes + roots[tree];
        while (node->right != 0U) {
            node += x[node->feature] <= node->threshold ? 1U : node->right;
        }
        const float *value = values + (leaves[tree] + node->feature) * (uint32_t)n_outputs;
        for (int32_t j = 0; j < n_outputs; j++) {
            out[j] += value[j];
        }
    }
    for (int32_t j = 0; j < n_outputs; j++) {
        out[j] /= (float)n_trees;
    }
}
