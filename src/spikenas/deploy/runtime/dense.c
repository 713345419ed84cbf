/* Multiply-accumulates over real values: the convolution of an image, or of currents.
 *
 * The window of an output pixel is copied into a patch of 16-bit values, at most SPK_PATCH_MAX of them at a time,
 * and multiplied with that many weights of every channel. Weights are 8 bits, four to a word in the order 0 2 1 3; the
 * words of four channels lie side by side, those of the last one to three channels one after the other.
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

#if defined(SPK_DSP)
#define SPK_DOT(sum, w)                \
    __asm__("sxtb16 %1, %2\n\t"        \
            "smlad %0, %3, %1, %0\n\t" \
            "sxtb16 %1, %2, ror #8\n\t" \
            "smlad %0, %4, %1, %0"     \
            : "+&r"(sum), "=&r"(part)  \
            : "r"(w), "r"(p0), "r"(p1) \
            : "cc")
#else
#define SPK_DOT(sum, w) \
    (sum) += v0 * (int8_t)(w) + v1 * (int8_t)((w) >> 16) + v2 * (int8_t)((w) >> 8) + v3 * (int8_t)((w) >> 24)
#endif

/* The same for `channels` of four channels, whose words of weights lie side by side: the patch is read once. */
SPK_INLINE void dot_side_by_side(const spk_u32 *patch, const uint32_t *weights, unsigned words, unsigned channels,
                                 int32_t *sums) {
    int32_t s0 = sums[0], s1 = sums[1], s2 = channels == 4 ? sums[2] : 0, s3 = channels == 4 ? sums[3] : 0;
    const uint32_t *end = weights + 4 * words;
    do {
#if defined(SPK_DSP)
        const uint32_t p0 = patch[0], p1 = patch[1];
        uint32_t part;
#else
        const spk_i16 *values = (const spk_i16 *)patch;
        const int32_t v0 = values[0], v1 = values[1], v2 = values[2], v3 = values[3];
#endif
        uint32_t word = weights[0];
        SPK_DOT(s0, word);
        word = weights[1];
        SPK_DOT(s1, word);
        if (channels == 4) {
            word = weights[2];
            SPK_DOT(s2, word);
            word = weights[3];
            SPK_DOT(s3, word);
        }
        patch += 2;
        weights += 4;
    } while (weights != end);
    sums[0] = s0;
    sums[1] = s1;
    if (channels == 4) {
        sums[2] = s2;
        sums[3] = s3;
    }
}

static inline void dot4(const spk_u32 *patch, const uint32_t *weights, unsigned words, int32_t *sums) {
#if defined(__ARM_ARCH_6M__) /* has registers for two */
    dot_side_by_side(patch, weights, words, 2, sums);
    dot_side_by_side(patch, weights + 2, words, 2, sums + 2);
#else
    dot_side_by_side(patch, weights, words, 4, sums);
#endif
}

/* Multiplies `length` values of the patch into the sums; returns the weights that follow. */
static const uint32_t *multiply(spk_i16 *patch, unsigned length, const uint32_t *weights, unsigned channels,
                                int32_t *sums) {
    while ((length & 3u) != 0) {
        patch[length++] = 0;
    }
    const unsigned words = length >> 2;
    for (; channels >= 4; channels -= 4, sums += 4, weights += 4 * words) {
        dot4((const spk_u32 *)patch, weights, words, sums);
    }
    for (; channels != 0; --channels, ++sums, weights += words) {
        *sums = dot((const spk_u32 *)patch, weights, words, *sums);
    }
    return weights;
}

/* Widens `count` pixels; returns where the next go. */
static inline spk_i16 *widen(spk_i16 *to, const int8_t *from, unsigned count) {
    spk_i16 *end = to + count;
#if defined(SPK_DSP)
    for (; end - to >= 4; to += 4, from += 4) {
        uint32_t pixels, even, odd, low, high;
        __builtin_memcpy(&pixels, from, sizeof pixels);
        __asm__("sxtb16 %0, %1" : "=r"(even) : "r"(pixels));
        __asm__("sxtb16 %0, %1, ror #8" : "=r"(odd) : "r"(pixels));
        __asm__("pkhbt %0, %1, %2, lsl #16" : "=r"(low) : "r"(even), "r"(odd));
        __asm__("pkhtb %0, %1, %2, asr #16" : "=r"(high) : "r"(odd), "r"(even));
        __builtin_memcpy(to, &low, sizeof low);
        __builtin_memcpy(to + 2, &high, sizeof high);
    }
#endif
    while (to != end) {
        *to++ = *from++;
    }
    return to;
}

#if SPK_HAS_LINES
static inline spk_i16 *clear(spk_i16 *to, unsigned count) {
    for (spk_i16 *end = to + count; to != end;) {
        *to++ = 0;
    }
    return to;
}

/* The usual window, of an image and short enough for one patch: line by line. Returns its length. */
static unsigned fill_lines(const spk_term *term, const uint8_t *slot, int y, int x, spk_i16 *patch) {
    const spk_window *window = &term->window;
    int first;
    const int seen = spk_clip(x, window->kernel_w, term->width, &first);
    const unsigned channels = term->channels, line = (unsigned)window->kernel_w * channels;
    const unsigned left = (unsigned)first * channels, middle = (unsigned)seen * channels;
    spk_i16 *to = patch;
    for (int end = y + window->kernel_h; y != end; ++y) {
        if ((unsigned)y >= term->height || seen <= 0) {
            to = clear(to, line);
            continue;
        }
        to = clear(to, left);
        to = widen(to, (const int8_t *)slot + (unsigned)(y * term->width + x + first) * channels, middle);
        to = clear(to, line - left - middle);
    }
    return line * (unsigned)window->kernel_h;
}
#endif

#if SPK_HAS_PATCHES
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
        widen(to, (const int8_t *)source, count);
    } else {
        const spk_i16 *from = (const spk_i16 *)source;
        do {
            *to++ = *from++;
        } while (to != end);
    }
}

/* Appends `count` values, zeros where there is no source; multiplies whenever the patch is full. */
static SPK_APART void append(filling *patch, const uint8_t *source, unsigned form, unsigned count) {
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

static void add_patches(const spk_term *term, const uint8_t *slot, int y, int x, spk_i16 *patch, unsigned channels,
                        int32_t *sums) {
    const unsigned value_bytes = term->form == SPK_PIXELS ? 1 : 2;
    filling all = {patch, 0, (const uint32_t *)term->weights, term->group_out, sums};
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

/* Adds the convolution at output pixel (y, x) to the sums. */
void spk_dense(const spk_term *term, unsigned t, int y, int x, spk_i16 *patch, unsigned channels, int32_t *sums) {
    const uint8_t *slot = spk_slot(&term->place, t - term->delay);
    y = y * term->window.stride_h - term->window.pad_h;
    x = x * term->window.stride_w - term->window.pad_w;
#if SPK_HAS_LINES
    if (!SPK_HAS_PATCHES || term->one_patch) {
        multiply(patch, fill_lines(term, slot, y, x, patch), (const uint32_t *)term->weights, channels, sums);
        return;
    }
#endif
#if SPK_HAS_PATCHES
    add_patches(term, slot, y, x, patch, channels, sums);
#endif
}

#endif
