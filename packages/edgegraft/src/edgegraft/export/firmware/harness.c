/* Windows from a file through the model, results and counts into another.
 * HARNESS_RUN, HARNESS_VALUE, HARNESS_INPUT, HARNESS_OUTPUT, HARNESS_ARENA come from outside. */
#include "edgegraft_startup.h"
#include HARNESS_HEADER

__attribute__((section(".arena"), aligned(16))) static uint8_t arena[HARNESS_ARENA + 16];
__attribute__((section(".buffers"), aligned(16))) static HARNESS_VALUE input[HARNESS_INPUT];
__attribute__((section(".buffers"), aligned(16))) static HARNESS_VALUE output[HARNESS_OUTPUT];

__attribute__((noinline)) static void run(edgegraft_time *times)
{
    edgegraft_now(&times[0]);
    edgegraft_now(&times[1]);
    HARNESS_RUN(input, output, arena);
    edgegraft_now(&times[2]);
}

int edgegraft_main(void)
{
    edgegraft_time times[3];
    const int32_t from = edgegraft_open("in.bin", 0), to = edgegraft_open("out.bin", 1);
    if (from < 0 || to < 0) {
        return EDGEGRAFT_NO_INPUT;
    }
    edgegraft_timer();
    edgegraft_paint();
    while (edgegraft_read(from, input, sizeof input) == (int32_t)sizeof input) {
        run(times);
        edgegraft_write(to, output, sizeof output);
        edgegraft_write(to, times, sizeof times);
    }
    const uint32_t stack = edgegraft_stack(times);
    edgegraft_write(to, &stack, sizeof stack);
    return EDGEGRAFT_DONE;
}
