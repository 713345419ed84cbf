/* Runs a step over all output pixels. */
#include "lanes.h"
#include "spikenas_runtime.h"

typedef struct {
    const spk_step *step;
    unsigned t;
    int y, x;
    spk_events events;
} spot; /* where and when the step is */

static void add_terms(spot *at, const spk_group *group, spk_sums *sums, int32_t *dense) {
    const spk_term *end = group->terms + group->term_count;
    (void)sums, (void)dense; /* not every network needs both */
    for (const spk_term *term = group->terms; term != end; ++term) {
        if (at->t < term->delay) {
            continue; /* nothing has happened yet */
        }
        switch (term->reading) {
#if SPK_HAS_ROWS
        case SPK_ROWS:
            spk_gather(term, at->t, at->y, at->x, &at->events, sums);
            break;
#endif
#if SPK_HAS_UNITS
        case SPK_UNITS:
            spk_materialise(sums);
            spk_scatter(term, at->t, at->y, at->x, sums);
            break;
#endif
#if SPK_HAS_DENSE
        case SPK_DENSE:
            spk_dense(term, at->t, at->y, at->x, (spk_i16 *)at->events.start, group->channels, dense);
            break;
#endif
#if SPK_HAS_SKIP
        case SPK_SKIP:
            spk_materialise(sums);
            spk_skip(term, at->t, at->y, at->x, sums);
            break;
#endif
#if SPK_HAS_POOL
        case SPK_POOL:
            spk_materialise(sums);
            spk_pool(term, at->t, at->y, at->x, sums);
            break;
#endif
        default:
            break;
        }
    }
}

static void empty_events(spot *at, spk_sums *sums) {
#if SPK_HAS_ROWS
    spk_add_rows(&at->events, sums);
#else
    (void)at;
    (void)sums;
#endif
}

#if SPK_HAS_PARTIAL
/* A group whose sum is shifted or voted on before it joins the others. */
static void add_group(spot *at, const spk_group *group, spk_sums *sums) {
    int32_t *partial = (int32_t *)(void *)spk_at(at->step->partial);
    spk_sums own = {(spk_u32 *)partial, (spk_u32 *)partial, at->step->blocked, 1};
    empty_events(at, sums);
    spk_materialise(sums);
    for (unsigned i = 0; i < group->channels; ++i) {
        partial[i] = 0;
    }
    add_terms(at, group, &own, partial);
    empty_events(at, &own);
    spk_finish_group(group, partial, sums);
}
#endif

static void add_groups(spot *at, const spk_group *group, const spk_group *end, spk_sums *sums) {
    for (; group != end; ++group) {
#if SPK_HAS_PARTIAL
        if (!group->direct) {
            add_group(at, group, sums);
            continue;
        }
#endif
        add_terms(at, group, sums, (int32_t *)(void *)sums->to);
    }
    empty_events(at, sums);
}

/* Sums that hold the step's bias. */
static spk_sums open_sums(const spk_step *step, unsigned t, unsigned pixel) {
    spk_sums sums = {(spk_u32 *)spk_at(step->sums), step->bias, step->blocked, step->wide};
#if SPK_HAS_IN_PLACE
    if (step->in_place) {
        sums.to = (spk_u32 *)(void *)(spk_slot(&step->store, t) + pixel * step->channels * 2u);
    }
#else
    (void)t, (void)pixel;
#endif
    if (step->wide) {
        sums.from = sums.to;
        spk_i32 *to = (spk_i32 *)sums.to;
        const int32_t *bias = step->wide_bias;
        spk_i32 *end = to + step->channels;
        if (bias == 0) {
            while (to != end) {
                *to++ = 0;
            }
        }
        while (end - to >= 4) {
            to[0] = bias[0];
            to[1] = bias[1];
            to[2] = bias[2];
            to[3] = bias[3];
            to += 4;
            bias += 4;
        }
        while (to != end) {
            *to++ = *bias++;
        }
    }
    return sums;
}

#if SPK_HAS_FIXED
/* Continues from what is the same at every timestep. */
static spk_sums reopen_sums(const spk_step *step) {
    spk_sums sums = {(spk_u32 *)spk_at(step->sums), (const spk_u32 *)spk_at(step->fixed), step->blocked, step->wide};
    if (step->wide) {
        for (unsigned i = 0; i < step->channels; ++i) {
            sums.to[i] = sums.from[i];
        }
        sums.from = sums.to;
    }
    return sums;
}
#endif

/* Wide sums become 16-bit currents where they lie. */
static const spk_i16 *close_sums(const spk_step *step, const spk_sums *sums) {
    if (step->wide) {
        const spk_i32 *wide = (const spk_i32 *)sums->to;
        spk_i16 *currents = (spk_i16 *)sums->to;
        const unsigned shift = step->shift;
        const spk_i32 *end = wide + step->channels;
        for (; end - wide >= 4; wide += 4, currents += 4) {
            currents[0] = (int16_t)spk_clamp16(wide[0] >> shift);
            currents[1] = (int16_t)spk_clamp16(wide[1] >> shift);
            currents[2] = (int16_t)spk_clamp16(wide[2] >> shift);
            currents[3] = (int16_t)spk_clamp16(wide[3] >> shift);
        }
        while (wide != end) {
            *currents++ = (int16_t)spk_clamp16(*wide++ >> shift);
        }
    }
    return (const spk_i16 *)sums->from;
}

static void store_current(const spk_step *step, spk_sums *sums, const spk_i16 *currents, unsigned t, unsigned pixel) {
#if SPK_HAS_IN_PLACE
    if (step->in_place) {
        spk_materialise(sums);
        return;
    }
#else
    (void)sums;
#endif
    spk_i16 *to = (spk_i16 *)spk_slot(&step->store, t) + pixel * step->channels;
    for (unsigned i = 0; i < step->channels; ++i) {
        to[i] = currents[i];
    }
}

static void add_logits(const spk_step *step, const spk_sums *sums, unsigned t) {
    spk_i32 *to = (spk_i32 *)spk_at(step->store.offset);
    const spk_i32 *from = (const spk_i32 *)sums->to;
    for (unsigned i = 0; i < step->channels; ++i) {
        to[i] = (t == 0 ? 0 : to[i]) + (from[i] >> step->shift);
    }
}

static void fire(const spk_step *step, const spk_i16 *currents, unsigned t, unsigned pixel) {
#if SPK_HAS_NEURONS
    for (unsigned i = 0; i < step->neuron_count; ++i) {
        spk_fire(&step->neurons[i], currents, step->channels, t, pixel);
    }
#else
    (void)step, (void)currents, (void)t, (void)pixel;
#endif
}

static void finish(const spk_step *step, spk_sums *sums, unsigned t, unsigned pixel) {
    if (step->store_kind == SPK_STORE_LOGITS) {
        add_logits(step, sums, t);
        return;
    }
    const spk_i16 *currents = close_sums(step, sums);
    if (step->store_kind == SPK_STORE_CURRENT) {
        store_current(step, sums, currents, t, pixel);
    }
    fire(step, currents, t, pixel);
}

static void run_pixel(const spk_step *step, spot *at, unsigned first, unsigned last, unsigned pixel) {
    const spk_group *fixed_end = step->groups + step->static_count;
    const spk_group *end = step->groups + step->group_count;
    if (step->static_count == step->group_count) { /* one current for all timesteps */
        at->t = first;
        spk_sums sums = open_sums(step, first, pixel);
        add_groups(at, step->groups, end, &sums);
        if (step->store_kind == SPK_STORE_LOGITS) {
            for (unsigned t = first; t < last; ++t) {
                add_logits(step, &sums, t);
            }
            return;
        }
        const spk_i16 *currents = close_sums(step, &sums);
        if (step->store_kind == SPK_STORE_CURRENT) {
            store_current(step, &sums, currents, first, pixel);
        }
        for (unsigned t = first; t < last; ++t) {
            fire(step, currents, t, pixel);
        }
        return;
    }
#if SPK_HAS_FIXED
    if (step->static_count != 0) {
        spk_sums fixed = open_sums(step, first, pixel);
        fixed.to = (spk_u32 *)spk_at(step->fixed);
        if (step->wide) {
            for (unsigned i = 0; i < step->channels; ++i) {
                fixed.to[i] = fixed.from[i];
            }
            fixed.from = fixed.to;
        }
        at->t = first;
        add_groups(at, step->groups, fixed_end, &fixed);
        spk_materialise(&fixed);
    }
#endif
    for (unsigned t = first; t < last; ++t) {
#if SPK_HAS_FIXED
        spk_sums sums = step->static_count != 0 ? reopen_sums(step) : open_sums(step, t, pixel);
#else
        spk_sums sums = open_sums(step, t, pixel);
#endif
        at->t = t;
        add_groups(at, fixed_end, end, &sums);
        finish(step, &sums, t, pixel);
    }
}

#if SPK_HAS_PLAIN
static inline void add_listed(const spk_term *term, spk_events *events, spk_sums *sums) {
#if SPK_HAS_BITS_8
    if (term->whole_blocks) {
        spk_add_whole_rows(events, sums);
        return;
    }
#else
    (void)term;
#endif
    spk_add_rows(events, sums);
}

/* The commonest step, with as little around the kernels as possible. */
static void run_plain(const spk_step *step, spk_events *events, unsigned first, unsigned last) {
    const spk_term *term = step->groups->terms;
    spk_sums sums = open_sums(step, first, 0);
    unsigned pixel = 0;
    events->term = term;
    for (int y = 0; y < step->height; ++y) {
        spk_view view;
        spk_look_down(term, y, &view);
        for (int x = 0; x < step->width; ++x, ++pixel) {
            const int sees = spk_look_across(term, x, &view);
            for (unsigned t = first; t < last; ++t) {
                sums.from = step->bias;
#if SPK_HAS_IN_PLACE
                if (step->in_place) {
                    sums.to = (spk_u32 *)(void *)(spk_slot(&step->store, t) + pixel * step->channels * 2u);
                }
#endif
                if (sees) {
                    spk_list(term, &view, spk_slot(&term->place, t) + view.offset, events, &sums);
                    add_listed(term, events, &sums);
                }
                if (step->store_kind == SPK_STORE_CURRENT) {
                    store_current(step, &sums, (const spk_i16 *)sums.from, t, pixel);
                }
                fire(step, (const spk_i16 *)sums.from, t, pixel);
            }
        }
    }
}
#endif

/* Computes timesteps first .. last - 1 of a step. */
void spk_run_step(const spk_step *step, unsigned first, unsigned last) {
    spk_u16 *list = (spk_u16 *)spk_at(step->events);
    spot at = {step, first, 0, 0, {list, list, list + step->event_limit, 0}};
    unsigned pixel = 0;
#if SPK_HAS_PLAIN
    if (step->plain) {
        run_plain(step, &at.events, first, last);
        return;
    }
#endif
    for (at.y = 0; at.y < step->height; ++at.y) {
        for (at.x = 0; at.x < step->width; ++at.x, ++pixel) {
            run_pixel(step, &at, first, last, pixel);
        }
    }
}
