/* What the generated tables are made of, and the kernels that execute them.
 *
 * A network is a list of steps. A step computes, for every output pixel, one sum a channel and what becomes of it: a
 * stored current, the spikes of neurons, or the logits. The sum is made of groups (the terms of one layer, which share
 * a shift), and a term reads one stored value through a window. All storage is one arena (but for logits kept between
 * an image and its mirror image); every offset below counts its bytes. Nothing here allocates, divides or uses floating
 * point.
 *
 * SPK_COMPACT: the network is executed by compact.c, and its tables leave out what only the fast kernels read.
 */
#ifndef SPIKENAS_RUNTIME_H
#define SPIKENAS_RUNTIME_H

#include <stdint.h>

#include "network.h" /* generated: sizes, and which kernels this network needs */

#if defined(__GNUC__)
#define SPK_ALIAS __attribute__((may_alias)) /* the arena is read and written as several types */
#else
#define SPK_ALIAS
#endif
#if defined(__GNUC__)
#define SPK_INLINE static inline __attribute__((always_inline))
#define SPK_APART __attribute__((noinline)) /* what is seldom needed must not cost the rest its registers */
#else
#define SPK_APART
#define SPK_INLINE static inline
#endif
typedef uint32_t SPK_ALIAS spk_u32;
typedef int32_t SPK_ALIAS spk_i32;
typedef uint16_t SPK_ALIAS spk_u16;
typedef int16_t SPK_ALIAS spk_i16;

#if defined(__BYTE_ORDER__) && __BYTE_ORDER__ != __ORDER_LITTLE_ENDIAN__
#error "pairs and packed spikes are laid out for little-endian cores"
#endif

/* Right shifts of negative numbers must be arithmetic. */
typedef char spk_needs_arithmetic_shifts[((-1) >> 1) == -1 ? 1 : -1];

enum spk_form { SPK_SPIKES, SPK_PIXELS, SPK_CURRENTS };              /* packed bits, int8, int16 */
enum spk_reading { SPK_ROWS, SPK_UNITS, SPK_DENSE, SPK_SKIP, SPK_POOL };
enum spk_store { SPK_STORE_NOTHING, SPK_STORE_CURRENT, SPK_STORE_LOGITS };

typedef struct {
    uint32_t offset;
    uint32_t slot_bytes; /* of one timestep */
    uint16_t slot_mask;  /* timestep t lies in slot t & slot_mask */
} spk_place;

typedef struct {
    int16_t kernel_h, kernel_w, pad_h, pad_w;
    uint8_t stride_h, stride_w;
} spk_window;

/* One stored value seen from an output pixel: a window slides over a map, and each of its taps is a pool. */
typedef struct {
    spk_place place;
    uint16_t height, width, channels; /* of the stored value */
    uint16_t map_h, map_w;            /* of what the window slides over */
    uint8_t reading, form, delay;
    uint8_t pool_shift;  /* of the reciprocal */
    uint8_t left;        /* what is added counts 2^left times */
#if !SPK_COMPACT
    uint8_t unit_bytes;  /* a load of packed spikes; here, where alignment leaves a byte */
#endif
    uint16_t group_in, group_out; /* channels of one group of a grouped convolution */
    uint32_t reciprocal; /* UNITS: of group_in in 16 bits; POOL: of twice the window, 0 for the sum */
    const void *weights; /* UNITS and SKIP: 0 for weights of one */
    spk_window window, pool;
#if SPK_COMPACT
    uint16_t pixel_bytes; /* of packed spikes */
    uint8_t packing;      /* 2^packing weights in a byte */
#else
    uint16_t units;      /* loads a pixel */
    uint8_t bits;        /* of a weight in a row */
    uint8_t tap_by_tap;  /* ROWS: units cannot be listed in runs */
    uint8_t whole_blocks; /* ROWS: 8 bits, and as many sums as 4 words hold, or a multiple */
    uint8_t across, down; /* ROWS: pixels of a tap, when pools do not overlap */
    uint8_t one_patch;   /* DENSE: the window is of an image, ungrouped and short */
    uint16_t row_words;  /* of one row of weights */
    uint16_t tap_bytes;  /* ROWS: from one tap to the next in the stored map */
    uint32_t line_bytes; /* ROWS: of one line of the stored map */
    uint32_t tap_words, line_words; /* ROWS: from one tap, and from one line of taps, to the next */
    uint32_t first;      /* word of the first row, counted from weights */
#endif
} spk_term;

typedef struct {
    const spk_term *terms;
    const int32_t *bias; /* of a shifted or voted group, after the shift; 0 for none */
    uint16_t term_count;
    uint16_t channels;
    uint16_t vote;
    uint8_t shift;
    uint8_t direct; /* added to the step's sums without a detour */
} spk_group;

typedef struct {
    spk_place spikes;
    uint32_t membrane;         /* offset of the array of them, if there is one */
    uint32_t scratch;          /* offset of one pixel's membranes */
    const uint32_t *threshold; /* pairs of 16 bits */
    const int16_t *norm_bias; /* 0 without a folded norm */
    const uint8_t *norm_sign; /* a bit a channel: subtract instead of add */
    int16_t decay;            /* fraction of 256 */
    int16_t limit;            /* the membrane stays within -limit - 1 .. limit */
    uint16_t pixel_bytes;     /* of packed spikes */
    uint8_t subtract;         /* reset by subtraction instead of to zero */
    uint8_t membrane_bytes;   /* in the array; 0: they live in scratch while their pixel is computed */
#if !SPK_COMPACT
    uint8_t calm;             /* the limit is never reached */
    uint8_t packed;           /* two neurons to a register */
#endif
} spk_neuron;

typedef struct {
    const spk_group *groups;
    const spk_neuron *neurons;
    const int32_t *wide_bias;
    spk_place store;
    uint32_t sums, partial; /* scratch */
    uint16_t height, width, channels;
    uint8_t group_count, static_count, neuron_count;
    uint8_t store_kind;
    uint8_t shift;         /* of wide sums, before all else */
    uint8_t once;          /* nothing it writes depends on the timestep */
#if !SPK_COMPACT
    uint8_t plain;         /* narrow sums of nothing but one term of rows */
    uint8_t in_place;      /* narrow sums are formed where the current is stored */
    uint16_t blocked;      /* channels in whole blocks */
    uint16_t event_limit;  /* the list is emptied when it holds more */
    uint8_t wide;          /* 32-bit sums; else 16 bits are proven to be enough */
    const uint32_t *bias;  /* narrow sums: pairs of 16 bits */
    uint32_t fixed, events; /* scratch */
#endif
} spk_step;

/* The sums of one pixel. Narrow ones are pairs of 16 bits; they are read from `from` until they are first written. */
typedef struct {
    spk_u32 *to;
    const spk_u32 *from;
    uint16_t blocked;
    uint8_t wide;
} spk_sums;

/* Rows of weights to add, as words counted from the weights of one term. */
typedef struct {
    spk_u16 *start, *next;
    const spk_u16 *limit;
    const spk_term *term;
} spk_events;

/* The part of a stored map that an output pixel sees, as runs of units (loads of packed spikes). */
typedef struct {
    uint32_t line, line_row; /* byte and row of the first line; from spk_look_down */
    int seen_lines;
    uint32_t offset;         /* byte of the first unit */
    uint32_t row;            /* of the first unit */
    uint32_t row_step;       /* from unit to unit, in words */
    uint32_t line_step;      /* from line to line of taps */
    unsigned taps;           /* in a line */
    unsigned lines;
    unsigned gap;            /* bytes from the end of a line to the next */
    unsigned across, down;   /* units and lines that share a tap: 1, or a pooling without overlap */
} spk_view;

extern uint32_t spk_arena[SPK_ARENA_WORDS];
extern const spk_step spk_steps[SPK_STEP_COUNT];

static inline uint8_t *spk_at(uint32_t offset) { return (uint8_t *)spk_arena + offset; }

static inline uint8_t *spk_slot(const spk_place *place, unsigned t) {
    return spk_at(place->offset + (t & place->slot_mask) * place->slot_bytes);
}

static inline int32_t spk_clamp(int32_t x, int32_t limit) {
    x = x > limit ? limit : x;
    return x < -limit - 1 ? -limit - 1 : x;
}

/* The part of a window that lies on a map: its first tap, and how many there are. */
static inline int spk_clip(int position, int kernel, int size, int *first) {
    int last = position + kernel > size ? size - position : kernel;
    *first = position < 0 ? -position : 0;
    return last - *first;
}

#if !SPK_COMPACT
/* The taps of the view's lines that output column x sees; 0 if there are none. */
static inline int spk_look_across(const spk_term *term, int x, spk_view *v) {
    int first;
    x = x * term->window.stride_w - term->window.pad_w;
    const int taps = spk_clip(x, term->window.kernel_w, term->map_w, &first);
    const unsigned tap_bytes = term->tap_bytes;
    v->offset = v->line + (unsigned)(x + first) * tap_bytes;
    v->row = v->line_row + (uint32_t)first * term->tap_words;
    v->taps = (unsigned)taps * term->units;
    v->gap = term->line_bytes - (unsigned)taps * tap_bytes;
    return taps > 0 && v->seen_lines > 0;
}
#endif

/* steps.c */
void spk_run_step(const spk_step *step, unsigned first, unsigned last);
/* sums.c */
#if SPK_COMPACT
static inline void spk_add(spk_sums *sums, unsigned channel, int32_t value) {
    ((spk_i32 *)sums->to)[channel] += value;
}
#else
void spk_materialise(spk_sums *sums);
void spk_add(spk_sums *sums, unsigned channel, int32_t value);
#endif
void spk_finish_group(const spk_group *group, const int32_t *partial, spk_sums *sums);
/* rows.c */
void spk_add_rows(spk_events *events, spk_sums *sums);
void spk_add_whole_rows(spk_events *events, spk_sums *sums);
/* events.c */
void spk_gather(const spk_term *term, unsigned t, int y, int x, spk_events *events, spk_sums *sums);
void spk_look_down(const spk_term *term, int y, spk_view *view);
void spk_list(const spk_term *term, const spk_view *view, const uint8_t *units, spk_events *events, spk_sums *sums);
void spk_scatter(const spk_term *term, unsigned t, int y, int x, spk_sums *sums);
/* dense.c */
void spk_dense(const spk_term *term, unsigned t, int y, int x, spk_i16 *patch, unsigned channels, int32_t *sums);
/* currents.c */
void spk_skip(const spk_term *term, unsigned t, int y, int x, spk_sums *sums);
void spk_pool(const spk_term *term, unsigned t, int y, int x, spk_sums *sums);
/* neurons.c */
void spk_fire(const spk_neuron *neuron, const spk_i16 *x, unsigned channels, unsigned t, unsigned pixel);

#endif
