/* Edgegraft: a live stream cut into windows, and scores turned into events.
 *
 * The same windows as edgegraft_edge.windowing.Ring and the same events as
 * edgegraft_edge.decision.Decider, in memory that the caller gives. Time is counted in samples.
 */
#ifndef EDGEGRAFT_STREAM_H
#define EDGEGRAFT_STREAM_H

#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

/* ---- windows ---- */

/* A window that fills up sample by sample, and keeps what the next one shares with it. */
typedef struct {
    uint8_t *window;      /* n_channels * n_timepoints values */
    uint32_t value_bytes; /* of one value: 4 for float, 1 for int8 */
    uint32_t n_channels, n_timepoints, n_stride;
    uint32_t last;        /* 1: values lie (n_timepoints, n_channels); 0: the other way */
    uint32_t filled, skip;
} eg_ring;

/* Forgets all samples, as after a gap. */
void eg_ring_reset(eg_ring *ring);

/* Takes one sample of n_channels values. 1 when it completes a window, which stays as it is until
 * the next call; else 0. */
int32_t eg_ring_push(eg_ring *ring, const void *sample);

/* ---- decisions ---- */

enum { EG_UNSURE = -1 };
typedef enum { EG_CHANGE = 0, EG_WINDOW = 1 } eg_kind;
typedef enum { EG_SURE = 0, EG_THRESHOLD = 1, EG_SKIPPED = 2 } eg_reason;

/* How scores become events; made from the decision of a bundle. */
typedef struct {
    uint32_t n_classes;
    uint32_t smooth;        /* windows that are averaged */
    uint32_t every_window;  /* 0: an event at each change; 1: for each window */
    uint64_t hold_off;      /* samples from one change to the next, at least */
    const uint32_t *least;  /* int8: for 1 to `smooth` windows, the least sum that is sure */
    double least_mean;      /* float: the least mean that is sure */
} eg_decision;

/* What a device has to say. */
typedef struct {
    uint64_t at;      /* index of the last sample of the window, from 0 */
    int32_t label;    /* position of the class, or EG_UNSURE */
    eg_kind kind;
    eg_reason reason; /* why it is unsure */
    uint32_t sum;     /* int8: of (score + 128) over `count` windows; 256 * count is certainty */
    uint32_t count;
    double mean;      /* float: probability; 0 for int8 */
} eg_event;

typedef struct {
    const eg_decision *decision;
    void *recent; /* smooth * n_classes scores: int8_t or float */
    uint32_t count, next;
    int32_t said_label;
    eg_reason said_reason;
    uint32_t has_said;
    uint64_t changed_at;
} eg_decider;

/* Forgets the scores so far, as after a gap; what was said last still stands. */
void eg_decider_reset(eg_decider *decider);

/* Forgets everything. */
void eg_decider_restart(eg_decider *decider);

/* The scores (n_classes) of a window that ends with sample `at`, or a null pointer for one that
 * could not be scored. 1 when there is an event; else 0. */
int32_t eg_decide_s8(eg_decider *decider, uint64_t at, const int8_t *scores, eg_event *event);
int32_t eg_decide_f32(eg_decider *decider, uint64_t at, const float *scores, eg_event *event);

/* Whether a sample holds NaN or infinity in one of n values; without floating point. */
int32_t eg_is_broken(const float *sample, uint32_t n);

#ifdef __cplusplus
}
#endif

#endif
