/* The main program of a chip image under test: the image lies where a camera would put it, outside flash and RAM. */
#include "spikenas.h"

#if defined(SPIKENAS_PROBE)
/* The emulator watches this address and reads the arena when it is reached. */
void SPIKENAS_PROBE(unsigned step, unsigned first, unsigned last);
__attribute__((noinline)) void SPIKENAS_PROBE(unsigned step, unsigned first, unsigned last) {
    __asm__ volatile("" ::"r"(step), "r"(first), "r"(last));
}
#endif

int main(void) {
    return spikenas_classify((const uint8_t *)SPIKENAS_CAMERA, (int32_t *)SPIKENAS_RESULT);
}
