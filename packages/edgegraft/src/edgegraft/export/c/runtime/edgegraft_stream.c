/* Edgegraft: streams. See edgegraft_stream.h. */
#include "edgegraft_stream.h"

#include <string.h>

/* ---- windows ---- */

void eg_ring_reset(eg_ring *ring)
{
    ring->filled = 0u;
    ring->skip = 0u;
}

/* The end of the window becomes the beginning of the next. */
static void advance(eg_ring *ring)
{
    const uint32_t length = ring->n_timepoints, stride = ring->n_stride;
    const uint32_t keep = stride < length ? length - stride : 0u;
    if (ring->last != 0u) {
        const size_t row = (size_t)ring->n_channels * ring->value_bytes;
        memmove(ring->window, ring->window + row * (length - keep), row * keep);
    } else {
        const size_t row = (size_t)length * ring->value_bytes;
        for (uint32_t channel = 0; channel < ring->n_channels; channel++) {
            uint8_t *values = ring->window + row * channel;
            memmove(values, values + (size_t)(length - keep) * ring->value_bytes,
                    (size_t)keep * ring->value_bytes);
        }
    }
    ring->filled = keep;
    ring->skip = stride > length ? stride - length : 0u;
}

int32_t eg_ring_push(eg_ring *ring, const void *sample)
{
    const uint8_t *bytes = (const uint8_t *)sample;
    const size_t size = ring->value_bytes;
    if (ring->filled == ring->n_timepoints) {
        advance(ring);
    }
    if (ring->skip > 0u) { /* a stride longer than the window leaves samples out */
        ring->skip--;
        return 0;
    }
    if (ring->last != 0u) {
        memcpy(ring->window + size * ring->n_channels * ring->filled, bytes,
               size * ring->n_channels);
    } else {
        for (uint32_t channel = 0; channel < ring->n_channels; channel++) {
            const size_t place = (size_t)channel * ring->n_timepoints + ring->filled;
            memcpy(ring->window + size * place, bytes + size * channel, size);
        }
    }
    ring->filled++;
    return ring->filled == ring->n_timepoints ? 1 : 0;
}

/* ---- decisions ---- */

void eg_decider_reset(eg_decider *decider)
{
    decider->count = 0u;
    decider->next = 0u;
}

void eg_decider_restart(eg_decider *decider)
{
    eg_decider_reset(decider);
    decider->has_said = 0u;
}

/* Where the scores of the next window go; the oldest are overwritten. */
static uint32_t take_place(eg_decider *decider)
{
    const uint32_t smooth = decider->decision->smooth, place = decider->next;
    decider->next = place + 1u == smooth ? 0u : place + 1u;
    if (decider->count < smooth) {
        decider->count++;
    }
    return place * decider->decision->n_classes;
}

/* The event of a window with this answer, if there is one; event->label and reason are set. */
static int32_t say(eg_decider *decider, uint64_t at, eg_event *event)
{
    const eg_decision *decision = decider->decision;
    const int32_t same = decider->has_said != 0u && decider->said_label == event->label &&
                         decider->said_reason == event->reason;
    event->at = at;
    if (!same &&
        (decider->has_said == 0u || at - decider->changed_at >= decision->hold_off)) {
        decider->has_said = 1u;
        decider->said_label = event->label;
        decider->said_reason = event->reason;
        decider->changed_at = at;
        event->kind = EG_CHANGE;
        return 1;
    }
    if (decision->every_window == 0u || decider->has_said == 0u) {
        return 0;
    }
    event->label = decider->said_label;
    event->reason = decider->said_reason;
    event->kind = EG_WINDOW;
    return 1;
}

static void begin(eg_event *event)
{
    event->label = EG_UNSURE;
    event->reason = EG_SKIPPED;
    event->sum = 0u;
    event->count = 0u;
    event->mean = 0.0;
}

int32_t eg_decide_s8(eg_decider *decider, uint64_t at, const int8_t *scores, eg_event *event)
{
    const eg_decision *decision = decider->decision;
    const uint32_t n_classes = decision->n_classes;
    begin(event);
    if (scores == 0) {
        eg_decider_reset(decider);
        return say(decider, at, event);
    }
    int8_t *recent = (int8_t *)decider->recent;
    memcpy(recent + take_place(decider), scores, n_classes);
    uint32_t best = 0u;
    for (uint32_t label = 0; label < n_classes; label++) {
        uint32_t sum = 0u;
        for (uint32_t window = 0; window < decider->count; window++) {
            sum += (uint32_t)(recent[window * n_classes + label] + 128);
        }
        if (label == 0u || sum > event->sum) {
            best = label;
            event->sum = sum;
        }
    }
    event->count = decider->count;
    if (event->sum < decision->least[event->count - 1u]) {
        event->reason = EG_THRESHOLD;
    } else {
        event->label = (int32_t)best;
        event->reason = EG_SURE;
    }
    return say(decider, at, event);
}

int32_t eg_decide_f32(eg_decider *decider, uint64_t at, const float *scores, eg_event *event)
{
    const eg_decision *decision = decider->decision;
    const uint32_t n_classes = decision->n_classes;
    begin(event);
    if (scores == 0) {
        eg_decider_reset(decider);
        return say(decider, at, event);
    }
    float *recent = (float *)decider->recent;
    memcpy(recent + take_place(decider), scores, n_classes * sizeof *scores);
    uint32_t best = 0u;
    for (uint32_t label = 0; label < n_classes; label++) {
        /* from the oldest window on: in this order Python adds them */
        uint32_t window = decider->count < decision->smooth ? 0u : decider->next;
        double sum = 0.0;
        for (uint32_t step = 0; step < decider->count; step++) {
            sum += (double)recent[window * n_classes + label];
            window = window + 1u == decision->smooth ? 0u : window + 1u;
        }
        const double mean = sum / (double)decider->count;
        if (label == 0u || mean > event->mean) {
            best = label;
            event->mean = mean;
        }
    }
    event->count = decider->count;
    if (event->mean < decision->least_mean) {
        event->reason = EG_THRESHOLD;
    } else {
        event->label = (int32_t)best;
        event->reason = EG_SURE;
    }
    return say(decider, at, event);
}

int32_t eg_is_broken(const float *sample, uint32_t n)
{
    for (uint32_t index = 0; index < n; index++) {
        uint32_t bits;
        memcpy(&bits, &sample[index], sizeof bits);
        if ((bits & 0x7F800000u) == 0x7F800000u) {
            return 1;
        }
    }
    return 0;
}
