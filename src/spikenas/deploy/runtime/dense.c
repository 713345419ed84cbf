/* Multiply-accumulates over real values: the convolution of an image, or of currents.
 *
 * The window of an output pixel is copied into a patch of 16-bit values, at most SPK_PATCH_MAX of them at a time,
 * and multiplied with that many weights of every channel. Weights are 8 bits, four to a word in the order 0 2 1 3.
 */
#include "lanes.h"
#include "spikenas_runtime.h"

#if SPK_HAS_DENSE

static inline int32_t dot(const spk_u32 *patch, const uint32_t *weights, unsigned words, int32_t sum) {
    do {
        const uint32_t w = *weights++;
#if defined(SPK_DSP)
        uint32_t even, odd;
        __asm__("sxtb16 %0, %1" : "=r"(even) : "r"(w));
        __asm__("sxtb16 %0, %1, ror #8" : "=r"(odd) : "r"(w));
        __asm__("smlad %0, %1, %2, %0" : "+r"(sum) : "r"(patch[0]), "r"(even) : "cc");
        __asm__("smlad %0, %1, %2, %0" : "+r"(sum) : "r"(patch[1]), "r"(odd) : "cc");
#else
        const spk_i16 *values = (const spk_i16 *)patch;
        sum += values[0] * (int8_t)w;
        sum += values[1] * (int8_t)(w >> 16);
        sum += values[2] * (int8_t)(w >> 8);
        sum += values[3] * (int8_t)(w >> 24);
#endif
        patch += 2;
    } while (--words != 0);
    return sum;
}

/* The same for two channels, whose weights follow each other: the patch is read once. */
static inline void dot2(const spk_u32 *patch, const uint32_t *weights, unsigned words, int32_t *sums) {
    const uint32_t *other = weights + words;
    int32_t s0 = sums[0], s1 = sums[1];
    do {
        const uint32_t w0 = *weights++, w1 = *other++;
#if defined(SPK_DSP)
        const uint32_t p0 = patch[0], p1 = patch[1];
        uint32_t even, odd;
        __asm__("sxtb16 %0, %1" : "=r"(even) : "r"(w0));
        __asm__("sxtb16 %0, %1, ror #8" : "=r"(odd) : "r"(w0));
        __asm__("smlad %0, %1, %2, %0" : "+r"(s0) : "r"(p0), "r"(even) : "cc");
        __asm__("smlad %0, %1, %2, %0" : "+r"(s0) : "r"(p1), "r"(odd) : "cc");
        __asm__("sxtb16 %0, %1" : "=r"(even) : "r"(w1));
        __asm__("sxtb16 %0, %1, ror #8" : "=r"(odd) : "r"(w1));
        __asm__("smlad %0, %1, %2, %0" : "+r"(s1) : "r"(p0), "r"(even) : "cc");
        __asm__("smlad %0, %1, %2, %0" : "+r"(s1) : "r"(p1), "r"(odd) : "cc");
#else
        const spk_i16 *values = (const spk_i16 *)patch;
        const int32_t v0 = values[0], v1 = values[1], v2 = values[2], v3 = values[3];
        s0 += v0 * (int8_t)w0 + v1 * (int8_t)(w0 >> 16) + v2 * (int8_t)(w0 >> 8) + v3 * (int8_t)(w0 >> 24);
        s1 += v0 * (int8_t)w1 + v1 * (int8_t)(w1 >> 16) + v2 * (int8_t)(w1 >> 8) + v3 * (int8_t)(w1 >> 24);
#endif
        patch += 2;
    } while (--words != 0);
    sums[0] = s0;
    sums[1] = s1;
}

/* Multiplies `length` values of the patch into the sums; returns the weights that follow. */
static const uint32_t *multiply(spk_i16 *patch, unsigned length, const uint32_t *weights, unsigned channels,
                                int32_t *sums) {
    while ((length & 3u) != 0) {
        patch[length++] = 0;
    }
    const unsigned words = length >> 2;
    for (; channels >= 2; channels -= 2, sums += 2, weights += 2 * words) {
        dot2((const spk_u32 *)patch, weights, words, sums);
    }
    if (channels != 0) {
        *sums = dot((const spk_u32 *)patch, weights, words, *sums);
        weights += words;
    }
    return weights;
}

/* A patch that is being filled. */
typedef struct {
    spk_i16 *values;
    unsigned length;
    const uint32_t *weights;
    unsigned outputs;
    int32_t *sums;
} filling;

static void copy(spk_i16 *to, const uint8_t *source, unsigned form, unsigned count) {
    spk_i16 *end = to + count;
    if (source == 0) {
        do {
            *to++ = 0;
        } while (to != end);
    } else if (form == SPK_PIXELS) {
        const int8_t *from = (const int8_t *)source;
        do {
            *to++ = *from++;
        } while (to != end);
    } else {
        const spk_i16 *from = (const spk_i16 *)source;
        do {
            *to++ = *from++;
        } while (to != end);
    }
}

/* Appends `count` values, zeros where there is no source; multiplies whenever the patch is full. */
static void append(filling *patch, const uint8_t *source, unsigned form, unsigned count) {
    while (count != 0) {
        const unsigned room = SPK_PATCH_MAX - patch->length, part = count < room ? count : room;
        copy(patch->values + patch->length, source, form, part);
        if (source != 0) {
            source += form == SPK_PIXELS ? part : 2 * part;
        }
        count -= part;
        patch->length += part;
        if (patch->length == SPK_PATCH_MAX) {
            patch->weights = multiply(patch->values, patch->length, patch->weights, patch->outputs, patch->sums);
            patch->length = 0;
        }
    }
}

/* Fills in the window at (y, x), as far as one group of channels goes. */
static void fill(const spk_term *term, const uint8_t *slot, int y, int x, filling *patch) {
    const spk_window *window = &term->window;
    const unsigned value_bytes = term->form == SPK_PIXELS ? 1 : 2, channels = term->channels;
    const int whole = term->group_in == channels; /* then neighbouring pixels are neighbouring values */
    int first;
    const int seen = spk_clip(x, window->kernel_w, term->width, &first);
    for (int i = 0; i < window->kernel_h; ++i) {
        if ((unsigned)(y + i) >= term->height || seen <= 0) {
            append(patch, 0, 0, (unsigned)window->kernel_w * term->group_in);
            continue;
        }
        const uint8_t *line = slot + (unsigned)((y + i) * term->width + x + first) * channels * value_bytes;
        if (whole) {
            append(patch, 0, 0, (unsigned)first * channels);
            append(patch, line, term->form, (unsigned)seen * channels);
            append(patch, 0, 0, (unsigned)(window->kernel_w - first - seen) * channels);
            continue;
        }
        for (int j = 0; j < window->kernel_w; ++j) {
            const int inside = j >= first && j < first + seen;
            append(patch, inside ? line : 0, term->form, term->group_in);
            line += inside ? channels * value_bytes : 0;
        }
    }
}

/* Adds the convolution at output pixel (y, x) to the sums. */
void spk_dense(const spk_term *term, unsigned t, int y, int x, spk_i16 *patch, unsigned channels, int32_t *sums) {
    const unsigned value_bytes = term->form == SPK_PIXELS ? 1 : 2;
    const uint8_t *slot = spk_slot(&term->place, t - term->delay);
    filling all = {patch, 0, (const uint32_t *)term->weights, term->group_out, sums};
    y = y * term->window.stride_h - term->window.pad_h;
    x = x * term->window.stride_w - term->window.pad_w;
    for (unsigned done = 0; done < channels; done += term->group_out) {
        fill(term, slot, y, x, &all);
        if (all.length != 0) {
            all.weights = multiply(patch, all.length, all.weights, all.outputs, all.sums);
            all.length = 0;
        }
        all.sums += term->group_out;
        slot += term->group_in * value_bytes;
    }
}

#endif
