/* Adds rows of weights to a pixel's sums.
 *
 * Weights are stored with a bias that makes them unsigned, 2^(bits-1) - 1, so that packed ones can be added without
 * carries; the number of rows times the bias is taken off once. A word holds 4, 8 or 16 weights in planes of `bits`
 * bits; each plane holds four channels, in the order 0 2 1 3, so that its even bytes are one pair of sums and its odd
 * bytes the next.
 */
#include "lanes.h"
#include "spikenas_runtime.h"

#if SPK_HAS_ROWS

typedef struct {
    const uint32_t *weights;
    const spk_u16 *list, *end; /* at least one */
} rows;

#if defined(SPK_DSP) && (SPK_HAS_BITS_8 || SPK_HAS_BITS_4)
/* What the loops in assembly are given: they are where most time goes, and compilers run out of registers there. */
typedef struct {
    const uint32_t *weights;
    const spk_u16 *list, *end;
    uint32_t less; /* twice */
    const spk_u32 *from;
    spk_u32 *to;
    uint32_t blocks; /* of four words */
} block_job;

/* Adds all blocks of a row by one of these loops and says how many words of it are left; the rest is moved on to them. */
SPK_INLINE unsigned add_blocks(void (*loop)(block_job *), rows *r, unsigned words, uint32_t less, const spk_u32 **from,
                               spk_u32 **to) {
    if (words >= 4) {
        block_job job = {r->weights, r->list, r->end, less * 0x10001u, *from, *to, words >> 2};
        loop(&job);
        r->weights = job.weights;
        *from = job.from;
        *to = job.to;
    }
    return words & 3u;
}
#endif

#if defined(SPK_VECTORS)
typedef uint32_t words4 __attribute__((vector_size(16)));
#endif

#if SPK_HAS_BITS_8

/* Two words of every row: 8 channels. Not inline: a second copy costs 100 bytes and spares 10 instructions a call. */
__attribute__((noinline)) static void add_8bit_2(const rows *r, uint32_t less, const spk_u32 *from, spk_u32 *to) {
    const uint32_t *weights = r->weights;
    uint32_t a0 = spk_open(from[0], less), a1 = spk_open(from[1], less);
    uint32_t a2 = spk_open(from[2], less), a3 = spk_open(from[3], less);
    const spk_u16 *e = r->list;
    do {
        const uint32_t *row = weights + *e;
        uint32_t w0 = row[0], w1 = row[1];
        a0 = spk_add_even(a0, w0);
        a1 = spk_add_odd(a1, w0);
        a2 = spk_add_even(a2, w1);
        a3 = spk_add_odd(a3, w1);
    } while (++e != r->end);
    to[0] = spk_close(a0);
    to[1] = spk_close(a1);
    to[2] = spk_close(a2);
    to[3] = spk_close(a3);
}

static void add_8bit_1(const rows *r, uint32_t less, const spk_u32 *from, spk_u32 *to) {
    const uint32_t *weights = r->weights;
    uint32_t a0 = spk_open(from[0], less), a1 = spk_open(from[1], less);
    const spk_u16 *e = r->list;
    do {
        uint32_t w0 = weights[*e];
        a0 = spk_add_even(a0, w0);
        a1 = spk_add_odd(a1, w0);
    } while (++e != r->end);
    to[0] = spk_close(a0);
    to[1] = spk_close(a1);
}

#if defined(SPK_DSP)

/* Four words of every row, `blocks` times: r4 to r11 are 16 sums, r1 the list, r2 its end, r3 the weights, r0, r12 and
 * lr what is added. */
#define ADD_ROW                        \
    "ldrh r0, [r1], #2\n\t"            \
    "add r0, r3, r0, lsl #2\n\t"       \
    "ldrd r12, lr, [r0]\n\t"           \
    "uxtab16 r4, r4, r12\n\t"          \
    "uxtab16 r5, r5, r12, ror #8\n\t"  \
    "uxtab16 r6, r6, lr\n\t"           \
    "uxtab16 r7, r7, lr, ror #8\n\t"   \
    "ldrd r12, lr, [r0, #8]\n\t"       \
    "uxtab16 r8, r8, r12\n\t"          \
    "uxtab16 r9, r9, r12, ror #8\n\t"  \
    "uxtab16 r10, r10, lr\n\t"         \
    "uxtab16 r11, r11, lr, ror #8\n\t"

__attribute__((naked, noinline)) static void add_8bit_blocks(__attribute__((unused)) block_job *job) {
    __asm__ volatile(
        "push {r4-r11, lr}\n\t"
        "push {r0}\n"
        "1:\n\t" /* a block: 16 channels */
        "ldr lr, [r0, #12]\n\t"
        "ldr r12, [r0, #16]\n\t"
        "ldm r12!, {r4-r11}\n\t"
        "str r12, [r0, #16]\n\t"
        "ssub16 r4, r4, lr\n\t"
        "ssub16 r5, r5, lr\n\t"
        "ssub16 r6, r6, lr\n\t"
        "ssub16 r7, r7, lr\n\t"
        "ssub16 r8, r8, lr\n\t"
        "ssub16 r9, r9, lr\n\t"
        "ssub16 r10, r10, lr\n\t"
        "ssub16 r11, r11, lr\n\t"
        "ldm r0, {r3, r12}\n\t"
        "ldr r2, [r0, #8]\n\t"
        "mov r1, r12\n\t"
        "sub r0, r2, r1\n\t"
        "lsls r0, r0, #30\n\t" /* an odd row comes first */
        "bne 3f\n"
        "2:\n\t" ADD_ROW
        "3:\n\t" ADD_ROW
        "cmp r1, r2\n\t"
        "bne 2b\n\t"
        "ldr r0, [sp]\n\t"
        "ldr r12, [r0, #20]\n\t"
        "stm r12!, {r4-r11}\n\t"
        "str r12, [r0, #20]\n\t"
        "add r3, r3, #16\n\t"
        "str r3, [r0]\n\t"
        "ldr r12, [r0, #24]\n\t"
        "subs r12, r12, #1\n\t"
        "str r12, [r0, #24]\n\t"
        "bne 1b\n\t"
        "pop {r0}\n\t"
        "pop {r4-r11, pc}\n");
}

#elif defined(SPK_VECTORS)

typedef uint16_t lanes8 __attribute__((vector_size(16)));

/* For computers with vector registers: four words of a row are eight 16-bit lanes, or rather two times eight. */
static void add_8bit_4(const rows *r, uint32_t less, const spk_u32 *from, spk_u32 *to) {
    const uint32_t *weights = r->weights;
    const words4 even_from = {from[0], from[2], from[4], from[6]}, odd_from = {from[1], from[3], from[5], from[7]};
    lanes8 even = (lanes8)even_from - (uint16_t)less, odd = (lanes8)odd_from - (uint16_t)less;
    const spk_u16 *e = r->list;
    do {
        lanes8 row;
        __builtin_memcpy(&row, weights + *e, sizeof row);
        even += row & 0xFF;
        odd += row >> 8;
    } while (++e != r->end);
    const words4 even_to = (words4)even, odd_to = (words4)odd;
    for (unsigned i = 0; i < 4; ++i) {
        to[2 * i] = even_to[i];
        to[2 * i + 1] = odd_to[i];
    }
}

#elif !defined(__ARM_ARCH_6M__) /* there, eight low registers hold no more than 8 channels */

static void add_8bit_4(const rows *r, uint32_t less, const spk_u32 *from, spk_u32 *to) {
    const uint32_t *weights = r->weights;
    uint32_t a0 = spk_open(from[0], less), a1 = spk_open(from[1], less);
    uint32_t a2 = spk_open(from[2], less), a3 = spk_open(from[3], less);
    uint32_t a4 = spk_open(from[4], less), a5 = spk_open(from[5], less);
    uint32_t a6 = spk_open(from[6], less), a7 = spk_open(from[7], less);
    const spk_u16 *e = r->list;
    do {
        const uint32_t *row = weights + *e;
        uint32_t w0 = row[0], w1 = row[1];
        a0 = spk_add_even(a0, w0);
        a1 = spk_add_odd(a1, w0);
        a2 = spk_add_even(a2, w1);
        a3 = spk_add_odd(a3, w1);
        w0 = row[2];
        w1 = row[3];
        a4 = spk_add_even(a4, w0);
        a5 = spk_add_odd(a5, w0);
        a6 = spk_add_even(a6, w1);
        a7 = spk_add_odd(a7, w1);
    } while (++e != r->end);
    to[0] = spk_close(a0);
    to[1] = spk_close(a1);
    to[2] = spk_close(a2);
    to[3] = spk_close(a3);
    to[4] = spk_close(a4);
    to[5] = spk_close(a5);
    to[6] = spk_close(a6);
    to[7] = spk_close(a7);
}
#endif

#if defined(__ARM_ARCH_6M__)
#define BLOCK_WORDS 2u
#define ADD_BLOCK add_8bit_2
#else
#define BLOCK_WORDS 4u
#define ADD_BLOCK add_8bit_4
#endif

static void add_8bit(rows *r, unsigned words, uint32_t less, const spk_u32 *from, spk_u32 *to) {
#if defined(SPK_DSP)
    words = add_blocks(add_8bit_blocks, r, words, less, &from, &to);
#elif !defined(__ARM_ARCH_6M__)
    for (; words >= 4; words -= 4, r->weights += 4, from += 8, to += 8) {
        add_8bit_4(r, less, from, to);
    }
#endif
    for (; words >= 2; words -= 2, r->weights += 2, from += 4, to += 4) {
        add_8bit_2(r, less, from, to);
    }
    if (words != 0) {
        add_8bit_1(r, less, from, to);
    }
}

#endif

#if SPK_HAS_BITS_4 || SPK_HAS_BITS_2

#define NIBBLES 0x0F0F0F0Fu

/* Adds a register of four byte sums to two pairs. */
static inline void add_bytes(spk_u32 *to, uint32_t bytes) {
    to[0] = spk_close(spk_add_even(spk_open(to[0], 0), bytes));
    to[1] = spk_close(spk_add_odd(spk_open(to[1], 0), bytes));
}

/* Rows that fit into byte sums before these must be emptied. */
static inline const spk_u16 *batch_end(const spk_u16 *list, const spk_u16 *end, unsigned batch) {
    return (unsigned)(end - list) > batch ? list + batch : end;
}

__attribute__((noinline)) static void take(uint32_t less, const spk_u32 *from, spk_u32 *to, unsigned pairs) {
    for (unsigned i = 0; i < pairs; ++i) {
        to[i] = spk_close(spk_open(from[i], less));
    }
}

#endif

#if SPK_HAS_BITS_4

#define BATCH_4BIT 18u /* 18 * 14 < 256 */

/* Sums of four bytes: words as they are, and their upper nibbles. What remains without these are the lower ones', exactly,
 * although the former overflow: arithmetic is modulo 2^32 and the result is less. */
__attribute__((noinline)) static void add_nibbles(spk_u32 *to, uint32_t words, uint32_t upper) {
    add_bytes(to, words - (upper << 4));
    add_bytes(to + 2, upper);
}

static void add_4bit_1(const rows *r, uint32_t less, const spk_u32 *from, spk_u32 *to) {
    const uint32_t *weights = r->weights;
    take(less, from, to, 4);
    for (const spk_u16 *e = r->list; e != r->end;) {
        const spk_u16 *stop = batch_end(e, r->end, BATCH_4BIT);
        uint32_t a = 0, upper = 0;
        do {
            const uint32_t w = weights[*e++];
            a += w;
            upper += (w >> 4) & NIBBLES;
        } while (e != stop);
        add_nibbles(to, a, upper);
    }
}

static void add_4bit_2(const rows *r, uint32_t less, const spk_u32 *from, spk_u32 *to) {
    const uint32_t *weights = r->weights;
    take(less, from, to, 8);
    for (const spk_u16 *e = r->list; e != r->end;) {
        const spk_u16 *stop = batch_end(e, r->end, BATCH_4BIT);
        uint32_t a0 = 0, a1 = 0, upper0 = 0, upper1 = 0;
        do {
            const uint32_t *row = weights + *e++;
            const uint32_t w0 = row[0], w1 = row[1];
            a0 += w0;
            upper0 += (w0 >> 4) & NIBBLES;
            a1 += w1;
            upper1 += (w1 >> 4) & NIBBLES;
        } while (e != stop);
        add_nibbles(to, a0, upper0);
        add_nibbles(to + 4, a1, upper1);
    }
}

#if defined(SPK_DSP)

/* r4 to r7 are sums of words, r8 to r11 of their upper nibbles, r1 the list, r2 the batch's end, r3 the weights, r0 and
 * r12 what is added, lr NIBBLES. */
#define ADD_WORD(sum, upper, word)           \
    "add " sum ", " sum ", " word "\n\t"     \
    "and " word ", lr, " word ", lsr #4\n\t" \
    "add " upper ", " upper ", " word "\n\t"

#define ADD_ROW_4BIT              \
    "ldrh r0, [r1], #2\n\t"       \
    "add r0, r3, r0, lsl #2\n\t"  \
    "ldr r12, [r0, #8]\n\t"       \
    ADD_WORD("r6", "r10", "r12")  \
    "ldr r12, [r0, #12]\n\t"      \
    ADD_WORD("r7", "r11", "r12")  \
    "ldrd r0, r12, [r0]\n\t"      \
    ADD_WORD("r4", "r8", "r0")    \
    ADD_WORD("r5", "r9", "r12")

/* Eight pairs of sums, opened. */
#define TAKE_8                   \
    "ldm r1!, {r4-r11}\n\t"      \
    "ssub16 r4, r4, r3\n\t"      \
    "ssub16 r5, r5, r3\n\t"      \
    "ssub16 r6, r6, r3\n\t"      \
    "ssub16 r7, r7, r3\n\t"      \
    "ssub16 r8, r8, r3\n\t"      \
    "ssub16 r9, r9, r3\n\t"      \
    "ssub16 r10, r10, r3\n\t"    \
    "ssub16 r11, r11, r3\n\t"    \
    "stm r2!, {r4-r11}\n\t"

/* The byte sums of one word to four pairs. */
#define EMPTY_WORD(sum, upper)                      \
    "sub " sum ", " sum ", " upper ", lsl #4\n\t"   \
    "ldm r3, {r0, r2, r12, lr}\n\t"                 \
    "uxtab16 r0, r0, " sum "\n\t"                   \
    "uxtab16 r2, r2, " sum ", ror #8\n\t"           \
    "uxtab16 r12, r12, " upper "\n\t"               \
    "uxtab16 lr, lr, " upper ", ror #8\n\t"         \
    "stm r3!, {r0, r2, r12, lr}\n\t"

__attribute__((naked, noinline)) static void add_4bit_blocks(__attribute__((unused)) block_job *job) {
    __asm__ volatile(
        "push {r4-r11, lr}\n\t"
        "push {r0}\n"
        "1:\n\t" /* a block: 32 channels */
        "ldr r3, [r0, #12]\n\t"
        "ldrd r1, r2, [r0, #16]\n\t"
        TAKE_8
        TAKE_8
        "str r1, [r0, #16]\n\t"
        "ldr r1, [r0, #4]\n"
        "2:\n\t" /* a batch of at most 18 rows */
        "ldr r2, [r0, #8]\n\t"
        "add r12, r1, #36\n\t"
        "cmp r2, r12\n\t"
        "it hi\n\t"
        "movhi r2, r12\n\t"
        "ldr r3, [r0]\n\t"
        "mov lr, #0x0F0F0F0F\n\t"
        "movs r4, #0\n\t"
        "movs r5, #0\n\t"
        "movs r6, #0\n\t"
        "movs r7, #0\n\t"
        "mov r8, r4\n\t"
        "mov r9, r4\n\t"
        "mov r10, r4\n\t"
        "mov r11, r4\n\t"
        "sub r0, r2, r1\n\t"
        "lsls r0, r0, #30\n\t" /* an odd row comes first */
        "bne 4f\n"
        "3:\n\t"
        ADD_ROW_4BIT
        "4:\n\t"
        ADD_ROW_4BIT
        "cmp r1, r2\n\t"
        "bne 3b\n\t"
        "ldr r0, [sp]\n\t"
        "ldr r3, [r0, #20]\n\t"
        EMPTY_WORD("r4", "r8")
        EMPTY_WORD("r5", "r9")
        EMPTY_WORD("r6", "r10")
        EMPTY_WORD("r7", "r11")
        "ldr r0, [sp]\n\t"
        "ldr r2, [r0, #8]\n\t"
        "cmp r1, r2\n\t"
        "bne 2b\n\t"
        "str r3, [r0, #20]\n\t"
        "ldr r3, [r0]\n\t"
        "adds r3, r3, #16\n\t"
        "str r3, [r0]\n\t"
        "ldr r12, [r0, #24]\n\t"
        "subs r12, r12, #1\n\t"
        "str r12, [r0, #24]\n\t"
        "bne 1b\n\t"
        "pop {r0}\n\t"
        "pop {r4-r11, pc}\n");
}

#elif defined(SPK_VECTORS)

static void add_4bit_4(const rows *r, uint32_t less, const spk_u32 *from, spk_u32 *to) {
    const uint32_t *weights = r->weights;
    take(less, from, to, 16);
    for (const spk_u16 *e = r->list; e != r->end;) {
        const spk_u16 *stop = batch_end(e, r->end, BATCH_4BIT);
        words4 a = {0, 0, 0, 0}, upper = {0, 0, 0, 0};
        do {
            words4 row;
            __builtin_memcpy(&row, weights + *e++, sizeof row);
            a += row;
            upper += (row >> 4) & NIBBLES;
        } while (e != stop);
        for (unsigned i = 0; i < 4; ++i) {
            add_nibbles(to + 4 * i, a[i], upper[i]);
        }
    }
}

#elif !defined(__ARM_ARCH_6M__)

__attribute__((noinline)) static void add_4bit_4(const rows *r, uint32_t less, const spk_u32 *from, spk_u32 *to) {
    const uint32_t *weights = r->weights;
    take(less, from, to, 16);
    for (const spk_u16 *e = r->list; e != r->end;) {
        const spk_u16 *stop = batch_end(e, r->end, BATCH_4BIT);
        uint32_t a0 = 0, a1 = 0, a2 = 0, a3 = 0, upper0 = 0, upper1 = 0, upper2 = 0, upper3 = 0;
        do {
            const uint32_t *row = weights + *e++;
            uint32_t w0 = row[0], w1 = row[1];
            a0 += w0;
            upper0 += (w0 >> 4) & NIBBLES;
            a1 += w1;
            upper1 += (w1 >> 4) & NIBBLES;
            w0 = row[2];
            w1 = row[3];
            a2 += w0;
            upper2 += (w0 >> 4) & NIBBLES;
            a3 += w1;
            upper3 += (w1 >> 4) & NIBBLES;
        } while (e != stop);
        add_nibbles(to, a0, upper0);
        add_nibbles(to + 4, a1, upper1);
        add_nibbles(to + 8, a2, upper2);
        add_nibbles(to + 12, a3, upper3);
    }
}
#endif

static void add_4bit(rows *r, unsigned words, uint32_t less, const spk_u32 *from, spk_u32 *to) {
#if defined(SPK_DSP)
    words = add_blocks(add_4bit_blocks, r, words, less, &from, &to);
#elif !defined(__ARM_ARCH_6M__)
    for (; words >= 4; words -= 4, r->weights += 4, from += 16, to += 16) {
        add_4bit_4(r, less, from, to);
    }
#endif
    for (; words >= 2; words -= 2, r->weights += 2, from += 8, to += 8) {
        add_4bit_2(r, less, from, to);
    }
    if (words != 0) {
        add_4bit_1(r, less, from, to);
    }
}

#endif

#if SPK_HAS_BITS_2

#define PAIRS_OF_BITS 0x33333333u
#define BATCH_2BIT 7u      /* 7 * 2 < 16 */
#define LONG_BATCH_2BIT 126u /* 126 * 2 < 256 */

/* As with 4 bits, but first in sums of four bits, which go to those of bytes. */
static void add_2bit(rows *r, unsigned words, uint32_t less, const spk_u32 *from, spk_u32 *to) {
    for (; words != 0; --words, ++r->weights, from += 8, to += 8) {
        const uint32_t *weights = r->weights;
        take(less, from, to, 8);
        for (const spk_u16 *e = r->list; e != r->end;) {
            const spk_u16 *emptied = batch_end(e, r->end, LONG_BATCH_2BIT);
            uint32_t b0 = 0, b1 = 0, b2 = 0, b3 = 0;
            do {
                const spk_u16 *stop = batch_end(e, emptied, BATCH_2BIT);
                uint32_t a = 0, upper = 0;
                do {
                    const uint32_t w = weights[*e++];
                    a += w;
                    upper += (w >> 2) & PAIRS_OF_BITS;
                } while (e != stop);
                a -= upper << 2;
                b0 += a & NIBBLES;
                b1 += upper & NIBBLES;
                b2 += (a >> 4) & NIBBLES;
                b3 += (upper >> 4) & NIBBLES;
            } while (e != emptied);
            add_bytes(to, b0);
            add_bytes(to + 2, b1);
            add_bytes(to + 4, b2);
            add_bytes(to + 6, b3);
        }
    }
}

#endif

static void add_narrow(rows *r, const spk_term *term, unsigned words, const spk_u32 *from, spk_u32 *to) {
    const uint32_t count = (uint32_t)(r->end - r->list);
    switch (term->bits) {
#if SPK_HAS_BITS_8
    case 8:
        add_8bit(r, words, count * 127u, from, to);
        break;
#endif
#if SPK_HAS_BITS_4
    case 4:
        add_4bit(r, words, count * 7u, from, to);
        break;
#endif
#if SPK_HAS_BITS_2
    case 2:
        add_2bit(r, words, count, from, to);
        break;
#endif
    default:
        break;
    }
}

static inline unsigned pairs_in_word(const spk_term *term) { return term->bits == 8 ? 2 : term->bits == 4 ? 4 : 8; }

/* Of the words that are left of a row, those whose sums are 16 pairs or less. */
static inline unsigned words_taken(const spk_term *term, unsigned left) { return left < term->bits ? left : term->bits; }

/* The list holds at most 256 rows, whose sums fit into 16 bits: those are added to the 32-bit ones block by block. */
static void add_wide(rows *r, const spk_term *term, spk_i32 *to) {
    static const uint32_t zeros[16];
    for (unsigned words = term->row_words; words != 0;) {
        uint32_t pairs[16];
        const unsigned taken = words_taken(term, words), count = taken * pairs_in_word(term);
        const uint32_t *weights = r->weights;
        add_narrow(r, term, taken, zeros, pairs);
        for (unsigned i = 0; i < count; ++i) {
            to[2 * i] += (int16_t)pairs[i];
            to[2 * i + 1] += (int32_t)pairs[i] >> 16;
        }
        r->weights = weights + taken;
        to += 2 * count;
        words -= taken;
    }
}

#if SPK_HAS_LEFT
/* As add_wide, for rows that count 2^left times, and for sums of either width. */
static void add_moved(rows *r, const spk_term *term, const spk_sums *sums) {
    static const uint32_t zeros[16];
    const int32_t factor = (int32_t)1 << term->left;
    unsigned channel = 0;
    for (unsigned words = term->row_words; words != 0;) {
        uint32_t pairs[16];
        const unsigned taken = words_taken(term, words), count = taken * pairs_in_word(term);
        const uint32_t *weights = r->weights;
        add_narrow(r, term, taken, zeros, pairs);
        for (unsigned i = 0; i < count; ++i, channel += 2) {
            const int32_t low = (int16_t)pairs[i] * factor, high = ((int32_t)pairs[i] >> 16) * factor;
            if (sums->wide) {
                spk_i32 *to = (spk_i32 *)sums->to + channel;
                to[0] += low;
                to[1] += high;
            } else {
                spk_i16 *to = (spk_i16 *)sums->to + channel;
                to[0] = (int16_t)(to[0] + low);
                to[1] = (int16_t)(to[1] + high);
            }
        }
        r->weights = weights + taken;
        words -= taken;
    }
}
#endif

#if SPK_HAS_BITS_8
/* The usual case of spk_add_rows, as directly as possible: narrow sums that words of 8 bits cover without remainder. */
void spk_add_whole_rows(spk_events *events, spk_sums *sums) {
    const spk_term *term = events->term;
    const uint32_t count = (uint32_t)(events->next - events->start);
    if (count == 0) {
        return;
    }
#if defined(SPK_DSP)
    block_job job = {(const uint32_t *)term->weights, events->start, events->next, count * (127u * 0x10001u),
                     sums->from, sums->to, (uint32_t)term->row_words >> 2};
    add_8bit_blocks(&job);
#else
    rows r = {(const uint32_t *)term->weights, events->start, events->next};
    const spk_u32 *from = sums->from;
    spk_u32 *to = sums->to;
    for (unsigned words = term->row_words; words != 0; words -= BLOCK_WORDS) {
        ADD_BLOCK(&r, count * 127u, from, to);
        r.weights += BLOCK_WORDS;
        from += 2 * BLOCK_WORDS;
        to += 2 * BLOCK_WORDS;
    }
#endif
    events->next = events->start;
    sums->from = sums->to;
}
#endif

/* Adds all rows of the list and empties it. */
void spk_add_rows(spk_events *events, spk_sums *sums) {
    const spk_term *term = events->term;
    if (events->next == events->start) {
        return;
    }
    rows r = {(const uint32_t *)term->weights, events->start, events->next};
#if SPK_HAS_LEFT
    if (term->left != 0) {
        spk_materialise(sums);
        add_moved(&r, term, sums);
        events->next = events->start;
        return;
    }
#endif
    if (sums->wide) {
        add_wide(&r, term, (spk_i32 *)sums->to);
    } else {
        if (sums->from != sums->to && ((unsigned)term->row_words << 5) != (unsigned)sums->blocked * term->bits) {
            spk_materialise(sums); /* the rows do not cover all blocks */
        }
        add_narrow(&r, term, term->row_words, sums->from, sums->to);
        sums->from = sums->to;
    }
    events->next = events->start;
}

#endif
