/* From reset to main on a bare core: vectors, a stack, zeroed memory. */
#include <stdint.h>

extern uint32_t spk_stack_top[], spk_bss_start[], spk_bss_end[];
int main(void);
void spk_reset(void);
void spk_start(void);
void spk_halt(void);

#if defined(SPIKENAS_STOP)
void SPIKENAS_STOP(void);
#endif

__attribute__((noinline)) void spk_halt(void) {
#if defined(SPIKENAS_STOP)
    SPIKENAS_STOP();
#endif
    for (;;) {
        __asm__ volatile("");
    }
}

void spk_start(void) {
    for (volatile uint32_t *word = spk_bss_start; word != spk_bss_end; ++word) {
        *word = 0;
    }
    main();
    spk_halt();
}

#if defined(__riscv)

__attribute__((naked, section(".vectors"))) void spk_reset(void) {
    __asm__ volatile("lui sp, %hi(spk_stack_top)\n\taddi sp, sp, %lo(spk_stack_top)\n\tj spk_start");
}

#else

void spk_reset(void) { spk_start(); }

/* The first entries of a Cortex-M vector table; a fault ends in spk_halt. */
__attribute__((used, section(".vectors"))) static void (*const vectors[16])(void) = {
    (void (*)(void))(uintptr_t)spk_stack_top, spk_reset, spk_halt, spk_halt, spk_halt, spk_halt, spk_halt};

#endif

/* What compilers call on their own account. Volatile, or they would call it here too. */
void *memset(void *to, int value, __SIZE_TYPE__ size);
void *memset(void *to, int value, __SIZE_TYPE__ size) {
    volatile uint8_t *byte = to;
    while (size-- != 0) {
        *byte++ = (uint8_t)value;
    }
    return to;
}

void *memcpy(void *to, const void *from, __SIZE_TYPE__ size);
void *memcpy(void *to, const void *from, __SIZE_TYPE__ size) {
    volatile uint8_t *byte = to;
    const uint8_t *source = from;
    while (size-- != 0) {
        *byte++ = *source++;
    }
    return to;
}

#if defined(__arm__)
/* The same under the names of the ARM EABI. */
void __aeabi_memclr(void *to, __SIZE_TYPE__ size);
void __aeabi_memclr(void *to, __SIZE_TYPE__ size) { memset(to, 0, size); }
void __aeabi_memclr4(void *to, __SIZE_TYPE__ size) __attribute__((alias("__aeabi_memclr")));
void __aeabi_memclr8(void *to, __SIZE_TYPE__ size) __attribute__((alias("__aeabi_memclr")));
void __aeabi_memcpy(void *to, const void *from, __SIZE_TYPE__ size);
void __aeabi_memcpy(void *to, const void *from, __SIZE_TYPE__ size) { memcpy(to, from, size); }
void __aeabi_memcpy4(void *to, const void *from, __SIZE_TYPE__ size) __attribute__((alias("__aeabi_memcpy")));
void __aeabi_memcpy8(void *to, const void *from, __SIZE_TYPE__ size) __attribute__((alias("__aeabi_memcpy")));
#endif
