/* Called by the emulator for every basic block: counts the executed instructions, by class. */
#include <stdint.h>

#define CLASSES 6

typedef struct {
    uint64_t base;         /* of the code */
    uint64_t end;
    const uint32_t *table; /* instructions of each class before each halfword of the code: [CLASSES][halfwords + 1] */
    uint64_t halfwords;
    uint64_t counts[CLASSES];
} counter;

void spikenas_count(void *engine, uint64_t address, uint32_t size, void *user) {
    counter *c = user;
    (void)engine;
    if (address < c->base || address + size > c->end) {
        return;
    }
    const uint64_t first = (address - c->base) >> 1, last = (address + size - c->base) >> 1;
    for (int i = 0; i < CLASSES; ++i) {
        const uint32_t *row = c->table + (uint64_t)i * (c->halfwords + 1);
        c->counts[i] += row[last] - row[first];
    }
}
