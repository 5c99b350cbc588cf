#ifndef EDGEGRAFT_STARTUP_H
#define EDGEGRAFT_STARTUP_H
#include <stdint.h>

/* How a program ends. */
enum { EDGEGRAFT_DONE = 0, EDGEGRAFT_FAULT = 70, EDGEGRAFT_STACK_FULL = 71,
       EDGEGRAFT_WRITE_FAILED = 72, EDGEGRAFT_NO_INPUT = 73 };

typedef struct {
    uint32_t wraps, ticks;
} edgegraft_time;

int edgegraft_main(void);
int32_t edgegraft_open(const char *path, int32_t writing);
int32_t edgegraft_read(int32_t file, void *bytes, uint32_t count);
void edgegraft_write(int32_t file, const void *bytes, uint32_t count);
void edgegraft_exit(uint32_t code) __attribute__((noreturn));
void edgegraft_timer(void);
void edgegraft_now(edgegraft_time *time);
void edgegraft_paint(void);
uint32_t edgegraft_stack(const void *top);

#endif
