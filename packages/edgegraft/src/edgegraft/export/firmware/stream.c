/* A replayed stream through the model: samples from a file, events as lines of text into another.
 * A line: index of the last sample, label, kind, reason, sum, count, bits of the mean.
 * STREAM_HEADER, STREAM_TYPE, STREAM_START, STREAM_PUSH, STREAM_CHANNELS, STREAM_ARENA come from
 * outside. */
#include "edgegraft_startup.h"
#include STREAM_HEADER

__attribute__((section(".arena"), aligned(16))) static uint8_t arena[STREAM_ARENA + 16];
__attribute__((section(".buffers"), aligned(16))) static STREAM_TYPE stream;
static float sample[STREAM_CHANNELS];
static char line[160];

static uint32_t put(uint32_t place, uint64_t value, char after)
{
    char digits[20];
    uint32_t count = 0;
    do {
        digits[count++] = (char)('0' + (char)(value % 10u));
        value /= 10u;
    } while (value != 0u);
    while (count > 0u) {
        line[place++] = digits[--count];
    }
    line[place] = after;
    return place + 1u;
}

int edgegraft_main(void)
{
    const int32_t from = edgegraft_open("in.bin", 0), to = edgegraft_open("out.bin", 1);
    if (from < 0 || to < 0) {
        return EDGEGRAFT_NO_INPUT;
    }
    edgegraft_timer();
    edgegraft_paint();
    STREAM_START(&stream);
    while (edgegraft_read(from, sample, sizeof sample) == (int32_t)sizeof sample) {
        eg_event event;
        if (STREAM_PUSH(&stream, sample, arena, &event) != 0) {
            union {
                double value;
                uint64_t bits;
            } mean = {event.mean};
            uint32_t place = put(0u, event.at, ' ');
            place = put(place, (uint64_t)(uint32_t)(event.label + 1), ' ');
            place = put(place, (uint64_t)event.kind, ' ');
            place = put(place, (uint64_t)event.reason, ' ');
            place = put(place, event.sum, ' ');
            place = put(place, event.count, ' ');
            place = put(place, mean.bits, '\n');
            edgegraft_write(to, line, place);
        }
    }
    return EDGEGRAFT_DONE;
}
