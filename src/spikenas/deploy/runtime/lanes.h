/* Sums of two 16-bit numbers in one 32-bit register.
 *
 * In memory a pair is two int16, the even channel in the low half. In registers it is whatever adds fastest: on cores
 * with the ARMv7E-M packed instructions the same two lanes; elsewhere the number low + 65536 * high, to which packed
 * unsigned bytes can simply be added, because 32-bit arithmetic is exact modulo 2^32 and the lanes are separated at
 * the end. That is right as long as both final sums fit into 16 bits.
 */
#ifndef SPIKENAS_LANES_H
#define SPIKENAS_LANES_H

#include <stdint.h>

#if defined(__ARM_FEATURE_DSP) && !defined(SPK_PORTABLE)
#define SPK_DSP 1
#endif

#if defined(SPK_DSP)

/* Opens a pair and takes `less` from both lanes. */
static inline uint32_t spk_open(uint32_t pair, uint32_t less) {
    uint32_t result;
    __asm__("ssub16 %0, %1, %2" : "=r"(result) : "r"(pair), "r"(less * 0x10001u) : "cc");
    return result;
}

static inline uint32_t spk_close(uint32_t lanes) { return lanes; }

static inline int32_t spk_clamp16(int32_t x) {
    __asm__("ssat %0, #16, %0" : "+r"(x) : : "cc");
    return x;
}

/* Adds bytes 0 and 2 of a word to the two lanes. */
static inline uint32_t spk_add_even(uint32_t lanes, uint32_t word) {
    __asm__("uxtab16 %0, %0, %1" : "+r"(lanes) : "r"(word));
    return lanes;
}

/* Adds bytes 1 and 3 of a word to the two lanes. */
static inline uint32_t spk_add_odd(uint32_t lanes, uint32_t word) {
    __asm__("uxtab16 %0, %0, %1, ror #8" : "+r"(lanes) : "r"(word));
    return lanes;
}

static inline uint32_t spk_add_pairs(uint32_t a, uint32_t b) {
    uint32_t result;
    __asm__("sadd16 %0, %1, %2" : "=r"(result) : "r"(a), "r"(b) : "cc");
    return result;
}

#else

static inline int32_t spk_clamp16(int32_t x) { return x > 32767 ? 32767 : x < -32768 ? -32768 : x; }

static inline uint32_t spk_open(uint32_t pair, uint32_t less) {
    return pair - ((pair & 0x8000u) << 1) - less * 0x10001u;
}

static inline uint32_t spk_close(uint32_t lanes) { return lanes + ((lanes & 0x8000u) << 1); }

static inline uint32_t spk_add_even(uint32_t lanes, uint32_t word) { return lanes + (word & 0x00FF00FFu); }

static inline uint32_t spk_add_odd(uint32_t lanes, uint32_t word) { return lanes + ((word >> 8) & 0x00FF00FFu); }

static inline uint32_t spk_add_pairs(uint32_t a, uint32_t b) {
    return spk_close(spk_open(a, 0) + spk_open(b, 0));
}

#endif

/* Index of the lowest bit of a word that is not 0. */
static inline unsigned spk_lowest_bit(uint32_t word) {
#if defined(__GNUC__) && !defined(__ARM_ARCH_6M__) && (!defined(__riscv) || defined(__riscv_zbb))
    return (unsigned)__builtin_ctz(word);
#else
    static const uint8_t index[32] = {0,  1,  28, 2,  29, 14, 24, 3, 30, 22, 20, 15, 25, 17, 4,  8,
                                      31, 27, 13, 23, 21, 19, 16, 7, 26, 12, 18, 6,  11, 5,  10, 9};
    return index[((word & (0u - word)) * 0x077CB531u) >> 27]; /* a de Bruijn sequence */
#endif
}

#if defined(__ARM_ARCH_ISA_THUMB) && __ARM_ARCH_ISA_THUMB >= 2
#define SPK_REVERSES_BITS 1 /* counting zeros from the top of the reversed word is one instruction less a spike */
static inline uint32_t spk_reversed(uint32_t word) {
    __asm__("rbit %0, %0" : "+r"(word));
    return word;
}
#endif

/* Upper half of the 64-bit product. */
static inline uint32_t spk_high_product(uint32_t a, uint32_t b) {
#if defined(__ARM_ARCH_6M__) /* has no long multiplication */
    uint32_t low = (a & 0xFFFFu) * (b & 0xFFFFu);
    uint32_t mid = (a >> 16) * (b & 0xFFFFu) + (low >> 16);
    __asm__("" : "+r"(mid)); /* or compilers see through it and call a library */
    uint32_t mid2 = (a & 0xFFFFu) * (b >> 16) + (mid & 0xFFFFu);
    return (a >> 16) * (b >> 16) + (mid >> 16) + (mid2 >> 16);
#else
    return (uint32_t)(((uint64_t)a * b) >> 32);
#endif
}

#endif
