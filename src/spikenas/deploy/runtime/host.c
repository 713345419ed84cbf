/* The network as a library of the host, for tests and for whole test sets. */
#include <stddef.h>

#include "spikenas.h"
#include "spikenas_runtime.h"

typedef void (*probe_function)(unsigned step, unsigned first, unsigned last);
static probe_function probe;

void spikenas_host_probe(unsigned step, unsigned first, unsigned last);
void spikenas_host_probe(unsigned step, unsigned first, unsigned last) {
    if (probe != 0) {
        probe(step, first, last);
    }
}

void spikenas_set_probe(probe_function function);
void spikenas_set_probe(probe_function function) { probe = function; }

uint32_t *spikenas_arena(void);
uint32_t *spikenas_arena(void) { return spk_arena; }

void spikenas_classify_many(const uint8_t *images, int32_t *logits, size_t count);
void spikenas_classify_many(const uint8_t *images, int32_t *logits, size_t count) {
    for (size_t i = 0; i < count; ++i) {
        spikenas_classify(images + i * SPIKENAS_INPUT_BYTES, logits + i * SPIKENAS_CLASSES);
    }
}
