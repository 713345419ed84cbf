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

/* Four words of every row, `blocks` times. In assembly because it is where most time goes, and because compilers run
 * out of registers: r4 to r11 are 16 sums, r1 the list, r2 its end, r3 the weights, r0, r12 and lr what is added. */
typedef struct {
    const uint32_t *weights;
    const spk_u16 *list, *end;
    uint32_t less;
    const spk_u32 *from;
    spk_u32 *to;
    uint32_t blocks;
} block_job;

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
typedef uint32_t pairs4 __attribute__((vector_size(16)));

/* For computers with vector registers: four words of a row are eight 16-bit lanes, or rather two times eight. */
static void add_8bit_4(const rows *r, uint32_t less, const spk_u32 *from, spk_u32 *to) {
    const uint32_t *weights = r->weights;
    const pairs4 even_from = {from[0], from[2], from[4], from[6]}, odd_from = {from[1], from[3], from[5], from[7]};
    lanes8 even = (lanes8)even_from - (uint16_t)less, odd = (lanes8)odd_from - (uint16_t)less;
    const spk_u16 *e = r->list;
    do {
        lanes8 row;
        __builtin_memcpy(&row, weights + *e, sizeof row);
        even += row & 0xFF;
        odd += row >> 8;
    } while (++e != r->end);
    const pairs4 even_to = (pairs4)even, odd_to = (pairs4)odd;
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
    if (words >= 4) {
        block_job job = {r->weights, r->list, r->end, less * 0x10001u, from, to, words >> 2};
        add_8bit_blocks(&job);
        r->weights = job.weights;
        from = job.from;
        to = job.to;
        words &= 3u;
    }
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

/* Adds a register of four byte sums to two pairs. */
static inline void add_bytes(spk_u32 *to, uint32_t bytes) {
    to[0] = spk_close(spk_add_even(spk_open(to[0], 0), bytes));
    to[1] = spk_close(spk_add_odd(spk_open(to[1], 0), bytes));
}

/* Rows that fit into byte sums before these must be emptied. */
static inline const spk_u16 *batch_end(const spk_u16 *list, const spk_u16 *end, unsigned batch) {
    return (unsigned)(end - list) > batch ? list + batch : end;
}

static void take(uint32_t less, const spk_u32 *from, spk_u32 *to, unsigned pairs) {
    for (unsigned i = 0; i < pairs; ++i) {
        to[i] = spk_close(spk_open(from[i], less));
    }
}

#endif

#if SPK_HAS_BITS_4

#define NIBBLES 0x0F0F0F0Fu
#define BATCH_4BIT 18u /* 18 * 14 < 256 */

static void add_4bit_1(const rows *r, uint32_t less, const spk_u32 *from, spk_u32 *to) {
    const uint32_t *weights = r->weights;
    take(less, from, to, 4);
    for (const spk_u16 *e = r->list; e != r->end;) {
        const spk_u16 *stop = batch_end(e, r->end, BATCH_4BIT);
        uint32_t a0 = 0, a1 = 0;
        do {
            uint32_t w = weights[*e++];
            a0 += w & NIBBLES;
            a1 += (w >> 4) & NIBBLES;
        } while (e != stop);
        add_bytes(to, a0);
        add_bytes(to + 2, a1);
    }
}

static void add_4bit_2(const rows *r, uint32_t less, const spk_u32 *from, spk_u32 *to) {
    const uint32_t *weights = r->weights;
    take(less, from, to, 8);
    for (const spk_u16 *e = r->list; e != r->end;) {
        const spk_u16 *stop = batch_end(e, r->end, BATCH_4BIT);
        uint32_t a0 = 0, a1 = 0, a2 = 0, a3 = 0;
        do {
            const uint32_t *row = weights + *e++;
            uint32_t w = row[0];
            a0 += w & NIBBLES;
            a1 += (w >> 4) & NIBBLES;
            w = row[1];
            a2 += w & NIBBLES;
            a3 += (w >> 4) & NIBBLES;
        } while (e != stop);
        add_bytes(to, a0);
        add_bytes(to + 2, a1);
        add_bytes(to + 4, a2);
        add_bytes(to + 6, a3);
    }
}

static void add_4bit(rows *r, unsigned words, uint32_t less, const spk_u32 *from, spk_u32 *to) {
    for (; words >= 2; words -= 2, r->weights += 2, from += 8, to += 8) {
        add_4bit_2(r, less, from, to);
    }
    if (words != 0) {
        add_4bit_1(r, less, from, to);
    }
}

#endif

#if SPK_HAS_BITS_2

#define QUARTERS 0x03030303u
#define BATCH_2BIT 127u /* 127 * 2 < 256 */

static void add_2bit(rows *r, unsigned words, uint32_t less, const spk_u32 *from, spk_u32 *to) {
    for (; words != 0; --words, ++r->weights, from += 8, to += 8) {
        const uint32_t *weights = r->weights;
        take(less, from, to, 8);
        for (const spk_u16 *e = r->list; e != r->end;) {
            const spk_u16 *stop = batch_end(e, r->end, BATCH_2BIT);
            uint32_t a0 = 0, a1 = 0, a2 = 0, a3 = 0;
            do {
                uint32_t w = weights[*e++];
                a0 += w & QUARTERS;
                a1 += (w >> 2) & QUARTERS;
                a2 += (w >> 4) & QUARTERS;
                a3 += (w >> 6) & QUARTERS;
            } while (e != stop);
            add_bytes(to, a0);
            add_bytes(to + 2, a1);
            add_bytes(to + 4, a2);
            add_bytes(to + 6, a3);
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

/* The list holds at most 256 rows, whose sums fit into 16 bits: those are added to the 32-bit ones word by word. */
static void add_wide(rows *r, const spk_term *term, spk_i32 *to) {
    static const uint32_t zeros[8];
    const unsigned channels = term->bits == 8 ? 4 : term->bits == 4 ? 8 : 16; /* in a word */
    for (unsigned words = term->row_words; words != 0;) {
        uint32_t pairs[8];
        const unsigned taken = (term->bits == 8 && words >= 4) ? 4 : 1;
        const uint32_t *weights = r->weights;
        add_narrow(r, term, taken, zeros, pairs);
        for (unsigned i = 0; i < taken * channels >> 1; ++i) {
            to[2 * i] += (int16_t)pairs[i];
            to[2 * i + 1] += (int32_t)pairs[i] >> 16;
        }
        r->weights = weights + taken;
        to += taken * channels;
        words -= taken;
    }
}

#if SPK_HAS_LEFT
/* As add_wide, for rows that count 2^left times, and for sums of either width. */
static void add_moved(rows *r, const spk_term *term, const spk_sums *sums) {
    static const uint32_t zeros[8];
    const int32_t factor = (int32_t)1 << term->left;
    const unsigned most = term->bits >> 1; /* words that hold 8 pairs */
    const unsigned pairs_in_word = most == 4 ? 2 : most == 2 ? 4 : 8;
    unsigned channel = 0;
    for (unsigned words = term->row_words; words != 0;) {
        uint32_t pairs[8];
        const unsigned taken = words < most ? words : most;
        const uint32_t *weights = r->weights;
        add_narrow(r, term, taken, zeros, pairs);
        for (unsigned i = 0; i < taken * pairs_in_word; ++i, channel += 2) {
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
