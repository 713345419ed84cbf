/* The leaky integrate-and-fire neuron:  u = clamp(((decay * v) >> 8) + x);  s = u >= threshold;  reset. */
#include "lanes.h"
#include "spikenas_runtime.h"

#if SPK_HAS_NEURONS

static inline void store_spikes(uint8_t *to, unsigned channels, unsigned block, uint32_t spikes) {
    if (channels <= 8) {
        *to = (uint8_t)spikes;
    } else if (channels <= 16) {
        *(spk_u16 *)to = (uint16_t)spikes;
    } else {
        ((spk_u32 *)to)[block] = spikes;
    }
}

#if defined(SPK_DSP)

#define LEAK_HALF 128

/* Two membranes times decay / 256. */
static inline uint32_t leak(uint32_t v, uint32_t decay) {
    uint32_t low, high, result;
    __asm__("smulbb %0, %1, %2" : "=r"(low) : "r"(v), "r"(decay));
    __asm__("smultb %0, %1, %2" : "=r"(high) : "r"(v), "r"(decay));
    high <<= 8;
    __asm__("pkhtb %0, %1, %2, asr #8" : "=r"(result) : "r"(high), "r"(low));
    return result;
}

/* Integrates x into a leaked pair, returns the bits of those that fire, and leaves the pair after reset. */
static inline uint32_t fire_pair(spk_u32 *v, uint32_t leaked, uint32_t x, uint32_t threshold, uint32_t bits,
                                 uint32_t subtract) {
    uint32_t u, over, fired, kept;
    __asm__("qadd16 %0, %1, %2" : "=r"(u) : "r"(leaked), "r"(x));
    __asm__("ssub16 %[over], %[u], %[threshold]\n\t" /* sets GE where u >= threshold */
            "and %[over], %[over], %[subtract]\n\t"
            "sel %[fired], %[bits], %[zero]\n\t"
            "sel %[kept], %[over], %[u]"
            : [over] "=&r"(over), [fired] "=&r"(fired), [kept] "=&r"(kept)
            : [u] "r"(u), [threshold] "r"(threshold), [subtract] "r"(subtract), [bits] "r"(bits), [zero] "r"(0)
            : "cc");
    *v = kept;
    return fired;
}

/* Pairs that decay by half, an even number of them up to 8; spikes as fire_block returns them. In assembly for its
 * loads and stores of two words, and because a shift comes with the or. */
static inline uint32_t fire_halves(const spk_u32 *x, spk_u32 *v, const spk_u32 *threshold, unsigned pairs,
                                   uint32_t subtract) {
    uint32_t spikes = 0, v0, v1, x0, x1;
    const spk_u32 *end = v + pairs;
    __asm__ volatile("1:\n\t"
                     "ldrd %[v0], %[v1], [%[v]]\n\t"
                     "ldrd %[x0], %[x1], [%[x]], #8\n\t"
                     "shadd16 %[v0], %[v0], %[zero]\n\t"
                     "shadd16 %[v1], %[v1], %[zero]\n\t"
                     "qadd16 %[v0], %[v0], %[x0]\n\t"
                     "qadd16 %[v1], %[v1], %[x1]\n\t"
                     "ldrd %[x0], %[x1], [%[threshold]], #8\n\t"
                     "ssub16 %[x0], %[v0], %[x0]\n\t" /* sets GE where u >= threshold */
                     "and %[x0], %[x0], %[subtract]\n\t"
                     "sel %[v0], %[x0], %[v0]\n\t"
                     "sel %[x0], %[bits], %[zero]\n\t"
                     "orr %[spikes], %[x0], %[spikes], lsr #2\n\t"
                     "ssub16 %[x1], %[v1], %[x1]\n\t"
                     "and %[x1], %[x1], %[subtract]\n\t"
                     "sel %[v1], %[x1], %[v1]\n\t"
                     "sel %[x1], %[bits], %[zero]\n\t"
                     "orr %[spikes], %[x1], %[spikes], lsr #2\n\t"
                     "strd %[v0], %[v1], [%[v]], #8\n\t"
                     "cmp %[v], %[end]\n\t"
                     "bne 1b"
                     : [v] "+&r"(v), [x] "+&r"(x), [threshold] "+&r"(threshold), [spikes] "+&r"(spikes),
                       [v0] "=&r"(v0), [v1] "=&r"(v1), [x0] "=&r"(x0), [x1] "=&r"(x1)
                     : [end] "r"(end), [subtract] "r"(subtract), [bits] "r"(0x80004000u), [zero] "r"(0)
                     : "cc", "memory");
    return spikes >> (2 * (8 - pairs));
}

/* Up to 16 neurons; bit c of the result is channel c. */
static SPK_APART uint32_t fire_block(const spk_u32 *x, spk_u32 *v, const spk_u32 *threshold, unsigned pairs,
                                  uint32_t decay, uint32_t subtract) {
    uint32_t spikes = 0;
    unsigned done = 0;
    if (decay == LEAK_HALF && pairs >= 2) {
        done = pairs & ~1u;
        spikes = fire_halves(x, v, threshold, done, subtract);
    }
    for (uint32_t bits = 0x00020001u << (2 * done); done != pairs; ++done, bits <<= 2) {
        spikes |= fire_pair(v + done, leak(v[done], decay), x[done], threshold[done], bits, subtract);
    }
    return (spikes | (spikes >> 16)) & 0xFFFFu;
}

static inline void fire_packed(const spk_neuron *n, const spk_i16 *x, unsigned channels, spk_i16 *v, uint8_t *to) {
    const uint32_t subtract = n->subtract ? 0xFFFFFFFFu : 0, decay = (uint32_t)n->decay;
    const spk_u32 *xs = (const spk_u32 *)x, *thresholds = n->threshold;
    spk_u32 *vs = (spk_u32 *)v;
    if (channels <= 16) {
        store_spikes(to, channels, 0, fire_block(xs, vs, thresholds, channels >> 1, decay, subtract));
        return;
    }
    for (spk_u32 *words = (spk_u32 *)to;; ++words) {
        *words = fire_block(xs, vs, thresholds, channels > 16 ? 8 : channels >> 1, decay, subtract);
        if (channels > 16) {
            const unsigned pairs = channels >= 32 ? 8 : (channels - 16) >> 1;
            *words |= fire_block(xs + 8, vs + 8, thresholds + 8, pairs, decay, subtract) << 16;
        }
        if (channels <= 32) {
            return;
        }
        channels -= 32;
        xs += 16;
        vs += 16;
        thresholds += 16;
    }
}

#endif

#if !defined(SPK_DSP) || SPK_HAS_UNPACKED

/* Membranes one after the other. `calm`: they are proven to stay within their limits without a clamp. */
SPK_INLINE void fire_each(const spk_neuron *n, const spk_i16 *x, unsigned channels, spk_i16 *v, uint8_t *to, int calm,
                          int normed) {
    const int32_t decay = n->decay, subtract = n->subtract ? -1 : 0;
    const spk_i16 *threshold = (const spk_i16 *)n->threshold;
    for (unsigned base = 0; base < channels; base += 32) {
        const unsigned count = channels - base < 32 ? channels - base : 32;
        const spk_i16 *end = v + count;
        uint32_t word = 0;
        do {
            int32_t u = *x++;
            if (normed) {
                const unsigned channel = base + count - (unsigned)(end - v);
                u = (n->norm_sign[channel >> 3] & (1u << (channel & 7u))) != 0 ? -u : u;
                u += n->norm_bias[channel];
            }
            u += (decay * *v) >> 8;
            if (!calm) {
                u = spk_clamp(u, n->limit);
            }
            const int32_t over = u - *threshold++;
            word >>= 1;
            if (over >= 0) {
                word |= 0x80000000u;
                u = over & subtract;
            }
            *v++ = (int16_t)u;
        } while (v != end);
        store_spikes(to, channels, base >> 5, word >> (32 - count));
    }
}

static SPK_APART void fire_clamped(const spk_neuron *n, const spk_i16 *x, unsigned channels, spk_i16 *v, uint8_t *to) {
    fire_each(n, x, channels, v, to, 0, 0);
}

#if SPK_HAS_CALM && defined(SPK_VECTORS)
/* For computers with vector registers: eight calm neurons at a time. */
static SPK_APART void fire_calm(const spk_neuron *n, const spk_i16 *x, unsigned channels, spk_i16 *v, uint8_t *to) {
    typedef int16_t lanes8 __attribute__((vector_size(16)));
    typedef int32_t wide8 __attribute__((vector_size(32)));
    typedef uint8_t bytes8 __attribute__((vector_size(8)));
    if ((channels & 7u) != 0) {
        fire_each(n, x, channels, v, to, 1, 0);
        return;
    }
    const int16_t subtract = n->subtract ? -1 : 0;
    uint32_t word = 0;
    for (unsigned base = 0; base < channels; base += 8) {
        lanes8 vs, xs, thresholds;
        __builtin_memcpy(&vs, v + base, sizeof vs);
        __builtin_memcpy(&xs, x + base, sizeof xs);
        __builtin_memcpy(&thresholds, (const spk_i16 *)n->threshold + base, sizeof thresholds);
        const wide8 leaked = (__builtin_convertvector(vs, wide8) * n->decay) >> 8;
        const lanes8 u = __builtin_convertvector(leaked, lanes8) + xs, fired = u >= thresholds;
        const lanes8 after = (fired & (u - thresholds) & subtract) | (~fired & u);
        __builtin_memcpy(v + base, &after, sizeof after);
        const bytes8 bits = __builtin_convertvector(fired, bytes8) & (bytes8){1, 2, 4, 8, 16, 32, 64, 128};
        uint64_t sum;
        __builtin_memcpy(&sum, &bits, sizeof sum);
        word |= (uint32_t)((sum * 0x0101010101010101u) >> 56) << (base & 31u);
        if ((base & 31u) == 24 || base + 8 == channels) {
            store_spikes(to, channels, base >> 5, word);
            word = 0;
        }
    }
}
#elif SPK_HAS_CALM
static SPK_APART void fire_calm(const spk_neuron *n, const spk_i16 *x, unsigned channels, spk_i16 *v, uint8_t *to) {
    fire_each(n, x, channels, v, to, 1, 0);
}
#endif

#if SPK_HAS_NORMS
static SPK_APART void fire_normed(const spk_neuron *n, const spk_i16 *x, unsigned channels, spk_i16 *v, uint8_t *to) {
    fire_each(n, x, channels, v, to, 0, 1);
}
#endif

/* In order of speed. */
static inline void fire_unpacked(const spk_neuron *n, const spk_i16 *x, unsigned channels, spk_i16 *v, uint8_t *to) {
#if SPK_HAS_CALM
    if (n->calm) {
        fire_calm(n, x, channels, v, to);
        return;
    }
#endif
#if SPK_HAS_NORMS
    if (n->norm_bias != 0) {
        fire_normed(n, x, channels, v, to);
        return;
    }
#endif
    fire_clamped(n, x, channels, v, to);
}

#endif

static void fire(const spk_neuron *n, const spk_i16 *x, unsigned channels, spk_i16 *v, uint8_t *to) {
#if defined(SPK_DSP)
#if SPK_HAS_UNPACKED
    if (!n->packed) {
        fire_unpacked(n, x, channels, v, to);
        return;
    }
#endif
    fire_packed(n, x, channels, v, to);
#else
    fire_unpacked(n, x, channels, v, to);
#endif
}

#if SPK_HAS_SMALL_MEMBRANES
static void widen(const int8_t *from, spk_i16 *to, unsigned channels) {
    while (channels-- != 0) {
        *to++ = *from++;
    }
}

static void narrow(const spk_i16 *from, int8_t *to, unsigned channels) {
    while (channels-- != 0) {
        *to++ = (int8_t)*from++;
    }
}
#endif

/* Updates the neurons of one pixel with their currents and packs their spikes. */
void spk_fire(const spk_neuron *n, const spk_i16 *x, unsigned channels, unsigned t, unsigned pixel) {
    uint8_t *to = spk_slot(&n->spikes, t) + pixel * n->pixel_bytes;
    spk_i16 *v = (spk_i16 *)spk_at(n->scratch);
#if SPK_HAS_MEMBRANES
    if (n->membrane_bytes == 2) {
        v = (spk_i16 *)spk_at(n->membrane) + pixel * channels;
    }
#if SPK_HAS_SMALL_MEMBRANES
    int8_t *stored = (int8_t *)spk_at(n->membrane) + pixel * channels;
    if (n->membrane_bytes == 1) {
        widen(stored, v, channels);
    }
#endif
#endif
    if (t == 0) {
        spk_i16 *end = v + channels, *p = v;
        if ((channels & 7u) == 0) {
            do {
                spk_u32 *pairs = (spk_u32 *)p;
                pairs[0] = pairs[1] = pairs[2] = pairs[3] = 0;
                p += 8;
            } while (p != end);
        }
        for (; p != end; ++p) {
            *p = 0;
        }
    }
    fire(n, x, channels, v, to);
#if SPK_HAS_MEMBRANES && SPK_HAS_SMALL_MEMBRANES
    if (n->membrane_bytes == 1) {
        narrow(v, stored, channels);
    }
#endif
}

#endif
