/* The main program under QEMU: images come from a file of the host and logits go to one, by semihosting. */
#include "spikenas.h"

enum { SYS_OPEN = 0x01, SYS_WRITE = 0x05, SYS_READ = 0x06, SYS_EXIT_EXTENDED = 0x20 };
enum { READ_BINARY = 1, WRITE_BINARY = 5, FAULT = 99 };
#define STOPPED 0x20026u /* ADP_Stopped_ApplicationExit */

static uintptr_t ask(uintptr_t operation, const void *arguments) {
#if defined(__riscv)
    register uintptr_t a0 __asm__("a0") = operation;
    register const void *a1 __asm__("a1") = arguments;
    __asm__ volatile(".option push\n\t.option norvc\n\t"
                     "slli x0, x0, 0x1f\n\tebreak\n\tsrai x0, x0, 7\n\t"
                     ".option pop"
                     : "+r"(a0)
                     : "r"(a1)
                     : "memory");
    return a0;
#else
    register uintptr_t r0 __asm__("r0") = operation;
    register const void *r1 __asm__("r1") = arguments;
    __asm__ volatile("bkpt 0xab" : "+r"(r0) : "r"(r1) : "memory");
    return r0;
#endif
}

static void leave(uintptr_t code) {
    const uintptr_t arguments[2] = {STOPPED, code};
    ask(SYS_EXIT_EXTENDED, arguments);
}

/* Where a fault ends. */
void spk_qemu_stop(void);
void spk_qemu_stop(void) { leave(FAULT); }

static uintptr_t open_file(const char *name, uintptr_t length, uintptr_t mode) {
    const uintptr_t arguments[3] = {(uintptr_t)name, mode, length};
    return ask(SYS_OPEN, arguments);
}

/* Reads or writes all bytes; returns how many are left. */
static uintptr_t transfer(uintptr_t operation, uintptr_t file, void *data, uintptr_t size) {
    const uintptr_t arguments[3] = {file, (uintptr_t)data, size};
    return ask(operation, arguments);
}

int main(void) {
    static uint8_t image[SPIKENAS_INPUT_BYTES];
    static int32_t logits[SPIKENAS_CLASSES];
    const uintptr_t images = open_file("images.bin", 10, READ_BINARY), out = open_file("logits.bin", 10, WRITE_BINARY);
    while (transfer(SYS_READ, images, image, sizeof image) == 0) {
        spikenas_classify(image, logits);
        transfer(SYS_WRITE, out, logits, sizeof logits);
    }
    leave(0);
    return 0;
}
