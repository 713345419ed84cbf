/* One inference: the image in, the steps in the planned order, the logits out. */
#include "spikenas.h"
#include "spikenas_runtime.h"

#if defined(SPIKENAS_PROBE)
/* For tests: called when a step has finished timestep last - 1; what it wrote lies in the arena. */
void SPIKENAS_PROBE(unsigned step, unsigned first, unsigned last);
#else
#define SPIKENAS_PROBE(step, first, last) ((void)0)
#endif

uint32_t spk_arena[SPK_ARENA_WORDS];

/* The arena is as large as the plan says, in memory too. */
typedef char spk_arena_is_as_planned[sizeof spk_arena == SPIKENAS_ARENA_BYTES ? 1 : -1];

/* 8-bit pixels, channels last, around zero. */
static void load_frame(const uint8_t *image, unsigned t) {
    int8_t *to = (int8_t *)spk_at(SPK_INPUT_OFFSET) + (t & SPK_INPUT_SLOT_MASK) * SPK_INPUT_PIXELS * SPK_INPUT_CHANNELS;
    for (unsigned pixel = 0; pixel < SPK_INPUT_PIXELS; ++pixel) {
        for (unsigned channel = 0; channel < SPK_INPUT_CHANNELS; ++channel) {
            *to++ = (int8_t)(image[channel * SPK_INPUT_PIXELS + pixel] - 128);
        }
    }
}

#if SPK_MIRRORED
/* Each row of the loaded image from its end. */
static void mirror_frame(void) {
    int8_t *row = (int8_t *)spk_at(SPK_INPUT_OFFSET);
    const int8_t *end = row + SPK_INPUT_PIXELS * SPK_INPUT_CHANNELS;
    while (row != end) {
        int8_t *left = row;
        row += SPK_INPUT_WIDTH * SPK_INPUT_CHANNELS;
        for (int8_t *right = row - SPK_INPUT_CHANNELS; left < right; right -= 2 * SPK_INPUT_CHANNELS) {
            for (unsigned channel = 0; channel < SPK_INPUT_CHANNELS; ++channel) {
                const int8_t pixel = *left;
                *left++ = *right;
                *right++ = pixel;
            }
        }
    }
}
#endif

static int best(int32_t *logits) {
    const spk_i32 *sums = (const spk_i32 *)spk_at(SPK_LOGITS_OFFSET);
    int winner = 0;
    for (int i = 0; i < SPIKENAS_CLASSES; ++i) {
        if (logits != 0) {
            logits[i] = sums[i];
        }
        if (sums[i] > sums[winner]) {
            winner = i;
        }
    }
    return winner;
}

#if !SPK_LAYER_MAJOR
static void run_timestep(unsigned t) {
    for (unsigned i = 0; i < SPK_STEP_COUNT; ++i) {
        spk_run_step(&spk_steps[i], t, t + 1);
        SPIKENAS_PROBE(i, t, t + 1);
    }
}
#endif

#if SPK_STREAMED
void spikenas_frame(const uint8_t *frame, unsigned t) {
    load_frame(frame, t);
    run_timestep(t);
}

int spikenas_answer(int32_t *logits) { return best(logits); }
#endif

#if !SPK_STREAMED
/* The loaded image, from rest. */
static void run_steps(void) {
#if SPK_LAYER_MAJOR
    for (unsigned i = 0; i < SPK_STEP_COUNT; ++i) {
        const unsigned last = spk_steps[i].once ? 1 : SPIKENAS_TIMESTEPS;
        spk_run_step(&spk_steps[i], 0, last);
        SPIKENAS_PROBE(i, 0, last);
    }
#else
    for (unsigned t = 0; t < SPIKENAS_TIMESTEPS; ++t) {
        run_timestep(t);
    }
#endif
}
#endif

int spikenas_classify(const uint8_t *image, int32_t *logits) {
#if SPK_STREAMED
    for (unsigned t = 0; t < SPIKENAS_TIMESTEPS; ++t) {
        spikenas_frame(image + t * SPK_INPUT_PIXELS * SPK_INPUT_CHANNELS, t);
    }
#else
    load_frame(image, 0);
    run_steps();
#endif
#if SPK_MIRRORED
    spk_i32 *sums = (spk_i32 *)spk_at(SPK_LOGITS_OFFSET);
    int32_t kept[SPIKENAS_CLASSES];
    for (unsigned i = 0; i < SPIKENAS_CLASSES; ++i) {
        kept[i] = sums[i];
    }
    load_frame(image, 0);
    mirror_frame();
    run_steps();
    for (unsigned i = 0; i < SPIKENAS_CLASSES; ++i) {
        sums[i] += kept[i];
    }
#endif
    return best(logits);
}
