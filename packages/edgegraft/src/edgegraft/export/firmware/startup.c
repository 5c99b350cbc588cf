/* Start-up for the Cortex-M machines of QEMU: vectors, memory, a count of instructions, and
 * files through semihosting. Nothing of it goes to a real board. */
#include "edgegraft_startup.h"

/* Places that the linker knows. */
extern uint32_t edgegraft_data_start[], edgegraft_data_stop[], edgegraft_data_load[];
extern uint32_t edgegraft_bss_start[], edgegraft_bss_stop[];
extern uint32_t edgegraft_stack_limit[], edgegraft_stack_top[];

void edgegraft_reset(void);
void edgegraft_fault(void);
void edgegraft_wrap(void);
volatile uint32_t edgegraft_wraps;

#define REGISTER(address) (*(volatile uint32_t *)(address))
#define SYST_CSR REGISTER(0xE000E010u)
#define SYST_RVR REGISTER(0xE000E014u)
#define SYST_CVR REGISTER(0xE000E018u)
#define ICSR REGISTER(0xE000ED04u)
#define CCR REGISTER(0xE000ED14u)
#define CPACR REGISTER(0xE000ED88u)
#define SYST_PENDING (1u << 26)
#define SYST_MASK 0xFFFFFFu
#define UNALIGNED_FAULTS (1u << 3)
#define PAINT 0xA5C3F00Du

typedef void (*edgegraft_vector)(void);

__attribute__((section(".vectors"), used)) static const struct {
    uint32_t *stack;
    edgegraft_vector handlers[15];
} edgegraft_vectors = {
    edgegraft_stack_top,
    {edgegraft_reset, edgegraft_fault, edgegraft_fault, edgegraft_fault, edgegraft_fault,
     edgegraft_fault, edgegraft_fault, 0, 0, 0, edgegraft_fault, edgegraft_fault, 0,
     edgegraft_fault, edgegraft_wrap}};

/* Five instructions, each time the 24-bit timer starts again: edgegraft_now takes them off. */
__attribute__((naked)) void edgegraft_wrap(void)
{
    __asm__ volatile(".syntax unified\n"
                     "ldr r0, =edgegraft_wraps\n"
                     "ldr r1, [r0]\n"
                     "adds r1, #1\n"
                     "str r1, [r0]\n"
                     "bx lr\n"
                     ".ltorg\n");
}

static int32_t call(uint32_t operation, const void *argument)
{
    register uint32_t r0 __asm__("r0") = operation;
    register const void *r1 __asm__("r1") = argument;
    __asm__ volatile("bkpt 0xab" : "+r"(r0) : "r"(r1) : "memory");
    return (int32_t)r0;
}

static uint32_t length_of(const char *text)
{
    uint32_t length = 0;
    while (text[length] != '\0') {
        length++;
    }
    return length;
}

int32_t edgegraft_open(const char *path, int32_t writing)
{
    const uint32_t mode = writing ? 5u : 1u; /* "wb" or "rb" */
    const uint32_t block[3] = {(uint32_t)path, mode, length_of(path)};
    return call(1u, block);
}

int32_t edgegraft_read(int32_t file, void *bytes, uint32_t count)
{
    const uint32_t block[3] = {(uint32_t)file, (uint32_t)bytes, count};
    return (int32_t)count - call(6u, block);
}

void edgegraft_write(int32_t file, const void *bytes, uint32_t count)
{
    const uint32_t block[3] = {(uint32_t)file, (uint32_t)bytes, count};
    if (call(5u, block) != 0) {
        edgegraft_exit(EDGEGRAFT_WRITE_FAILED);
    }
}

void edgegraft_exit(uint32_t code)
{
    const uint32_t block[2] = {0x20026u, code};
    for (;;) {
        (void)call(0x20u, block);
    }
}

void edgegraft_fault(void)
{
    edgegraft_exit(EDGEGRAFT_FAULT);
}

void edgegraft_timer(void)
{
    SYST_RVR = SYST_MASK;
    SYST_CVR = 0u;
    SYST_CSR = 7u;
}

void edgegraft_now(edgegraft_time *time)
{
    uint32_t wraps, value, pending;
    do {
        wraps = edgegraft_wraps;
        value = SYST_CVR;
        pending = ICSR & SYST_PENDING;
    } while (wraps != edgegraft_wraps || pending != 0u);
    time->wraps = wraps;
    time->ticks = SYST_MASK - value;
}

/* Not the last 64 bytes: this function's own return address may stand there. */
__attribute__((noinline)) void edgegraft_paint(void)
{
    const uint32_t *here;
    __asm__ volatile("mov %0, sp" : "=r"(here));
    for (uint32_t *word = edgegraft_stack_limit; word < here - 16; word++) {
        *word = PAINT;
    }
}

uint32_t edgegraft_stack(const void *top)
{
    const uint32_t *word = edgegraft_stack_limit;
    if (*word != PAINT) {
        edgegraft_exit(EDGEGRAFT_STACK_FULL);
    }
    while (*word == PAINT) {
        word++;
    }
    return (uint32_t)((const uint8_t *)top - (const uint8_t *)word);
}

void edgegraft_reset(void)
{
#if defined(__ARM_FP) || defined(__ARM_FEATURE_MVE)
    CPACR |= 0xFu << 20;
    __asm__ volatile("dsb\n isb");
#endif
#ifdef __ARM_ARCH_6M__
    CCR |= UNALIGNED_FAULTS; /* the core that runs this would allow what an M0+ does not */
#endif
    const uint32_t *from = edgegraft_data_load;
    for (uint32_t *to = edgegraft_data_start; to < edgegraft_data_stop; to++, from++) {
        *to = *from;
    }
    for (uint32_t *to = edgegraft_bss_start; to < edgegraft_bss_stop; to++) {
        *to = 0u;
    }
    edgegraft_exit((uint32_t)edgegraft_main());
}
