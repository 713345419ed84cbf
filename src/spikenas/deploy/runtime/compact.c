/* A whole network in little code: one loop over values and weights instead of the kernels in steps.c, rows.c, events.c,
 * dense.c and neurons.c. It gives the same bits, takes some times the instructions, and is meant for networks whose
 * flash would otherwise be mostly code. All sums are 32 bits. Weights are a packed array [tap][channel][output].
 */
#include "lanes.h"
#include "spikenas_runtime.h"

#if SPK_COMPACT

/* Number `index` of an array of 8, 4 or 2-bit weights. */
static inline int32_t weight_at(const spk_term *term, uint32_t index) {
#if SPK_HAS_BITS_4 || SPK_HAS_BITS_2
    const unsigned packing = term->packing, bits = 8u >> packing; /* 2^packing weights in a byte */
    const unsigned above = 8u - bits - (index & ((1u << packing) - 1u)) * bits;
    return (int8_t)(uint8_t)(((const uint8_t *)term->weights)[index >> packing] << above) >> (8u - bits);
#else
    return ((const int8_t *)term->weights)[index];
#endif
}

/* One value, seen through tap `tap` of `taps`, into all sums that it has weights for. */
static SPK_APART void add_value(const spk_term *term, unsigned tap, unsigned taps, unsigned channel, int32_t value,
                                spk_i32 *sums) {
    if (term->weights == 0) {
        sums[channel * taps + tap] += value; /* with several taps the map is being flattened */
        return;
    }
#if SPK_HAS_LEFT
    value *= (int32_t)1 << term->left;
#endif
    uint32_t index = (tap * term->channels + channel) * term->group_out;
    sums += ((channel * term->reciprocal) >> 16) * term->group_out;
    for (const spk_i32 *end = sums + term->group_out; sums != end; ++sums, ++index) {
        *sums += value * weight_at(term, index);
    }
}

static void add_pixel(const spk_term *term, const uint8_t *slot, unsigned pixel, unsigned tap, unsigned taps,
                      spk_i32 *sums) {
    const unsigned channels = term->channels;
    if (term->form != SPK_SPIKES) {
        for (unsigned channel = 0, index = pixel * channels; channel < channels; ++channel, ++index) {
            const int32_t value = term->form == SPK_PIXELS ? ((const int8_t *)slot)[index] : ((const spk_i16 *)slot)[index];
            add_value(term, tap, taps, channel, value, sums);
        }
        return;
    }
    slot += pixel * term->pixel_bytes;
    for (unsigned base = 0; base < channels; base += 8) {
        unsigned channel = base;
        for (unsigned spikes = *slot++; spikes != 0; spikes >>= 1, ++channel) {
            if ((spikes & 1u) != 0) {
                add_value(term, tap, taps, channel, 1, sums);
            }
        }
    }
}

/* All pixels of the pool at (y, x). */
static void add_tap(const spk_term *term, const uint8_t *slot, int y, int x, unsigned tap, unsigned taps,
                    spk_i32 *sums) {
    int rows = 1, columns = 1, first_y = 0, first_x = 0;
#if SPK_HAS_POOLED
    const spk_window *pool = &term->pool;
    if (pool->kernel_h != 0) {
        y = y * pool->stride_h - pool->pad_h;
        x = x * pool->stride_w - pool->pad_w;
        rows = spk_clip(y, pool->kernel_h, term->height, &first_y);
        columns = spk_clip(x, pool->kernel_w, term->width, &first_x);
    }
#endif
    for (int i = first_y; i < first_y + rows; ++i) {
        for (int j = first_x; j < first_x + columns; ++j) {
            add_pixel(term, slot, (unsigned)((y + i) * term->width + x + j), tap, taps, sums);
        }
    }
}

static void add_term(const spk_term *term, unsigned t, int y, int x, spk_sums *sums) {
    if (t < term->delay) {
        return; /* nothing has happened yet */
    }
#if SPK_HAS_POOL
    if (term->reading == SPK_POOL) {
        spk_pool(term, t, y, x, sums);
        return;
    }
#endif
    const spk_window *window = &term->window;
    const uint8_t *slot = spk_slot(&term->place, t - term->delay);
    const unsigned taps = (unsigned)(window->kernel_h * window->kernel_w);
    unsigned tap = 0;
    y = y * window->stride_h - window->pad_h;
    x = x * window->stride_w - window->pad_w;
    for (int i = y; i < y + window->kernel_h; ++i) {
        for (int j = x; j < x + window->kernel_w; ++j, ++tap) {
            if ((unsigned)i < term->map_h && (unsigned)j < term->map_w) {
                add_tap(term, slot, i, j, tap, taps, (spk_i32 *)sums->to);
            }
        }
    }
}

static void add_terms(const spk_group *group, unsigned t, int y, int x, spk_sums *sums) {
    for (unsigned i = 0; i < group->term_count; ++i) {
        add_term(&group->terms[i], t, y, x, sums);
    }
}

/* The sums of one pixel. */
static spk_i32 *add_groups(const spk_step *step, unsigned t, int y, int x) {
    spk_sums sums = {(spk_u32 *)spk_at(step->sums), 0, 0, 1};
    spk_i32 *to = (spk_i32 *)sums.to;
    for (unsigned i = 0; i < step->channels; ++i) {
        to[i] = step->wide_bias == 0 ? 0 : step->wide_bias[i];
    }
    for (unsigned i = 0; i < step->group_count; ++i) {
        const spk_group *group = &step->groups[i];
#if SPK_HAS_PARTIAL
        if (!group->direct) {
            int32_t *partial = (int32_t *)(void *)spk_at(step->partial);
            spk_sums own = {(spk_u32 *)partial, 0, 0, 1};
            for (unsigned k = 0; k < group->channels; ++k) {
                partial[k] = 0;
            }
            add_terms(group, t, y, x, &own);
            spk_finish_group(group, partial, &sums);
            continue;
        }
#endif
        add_terms(group, t, y, x, &sums);
    }
    return to;
}

/* Updates the neurons of one pixel:  u = clamp(((decay * v) >> 8) + x);  s = u >= threshold;  reset. */
static void fire(const spk_neuron *n, const spk_i16 *x, unsigned channels, unsigned t, unsigned pixel) {
    uint8_t *to = spk_slot(&n->spikes, t) + pixel * n->pixel_bytes;
    const spk_i16 *threshold = (const spk_i16 *)n->threshold;
    spk_i16 *v = (spk_i16 *)spk_at(n->scratch);
#if SPK_HAS_MEMBRANES
    if (n->membrane_bytes == 2) {
        v = (spk_i16 *)spk_at(n->membrane) + pixel * channels;
    }
#if SPK_HAS_SMALL_MEMBRANES
    int8_t *small = (int8_t *)spk_at(n->membrane) + pixel * channels;
#endif
#endif
    unsigned spikes = 0;
    for (unsigned i = 0; i < channels; ++i) {
        int32_t u = x[i];
#if SPK_HAS_NORMS
        if (n->norm_bias != 0) {
            u = (n->norm_sign[i >> 3] & (1u << (i & 7u))) != 0 ? -u : u;
            u += n->norm_bias[i];
        }
#endif
        if (t != 0) {
#if SPK_HAS_SMALL_MEMBRANES
            u += (n->decay * (n->membrane_bytes == 1 ? small[i] : v[i])) >> 8;
#else
            u += (n->decay * v[i]) >> 8;
#endif
        }
        u = spk_clamp(u, n->limit);
        const int32_t over = u - threshold[i];
        spikes >>= 1;
        if (over >= 0) {
            spikes |= 0x80u;
            u = n->subtract ? over : 0;
        }
#if SPK_HAS_SMALL_MEMBRANES
        if (n->membrane_bytes == 1) {
            small[i] = (int8_t)u;
        } else {
            v[i] = (int16_t)u;
        }
#else
        v[i] = (int16_t)u;
#endif
        if ((i & 7u) == 7) {
            to[i >> 3] = (uint8_t)spikes;
        } else if (i + 1 == channels) {
            to[i >> 3] = (uint8_t)(spikes >> (7u - (i & 7u)));
        }
    }
}

/* Sums become 16-bit currents where they lie. */
static const spk_i16 *close_sums(const spk_step *step, const spk_i32 *sums) {
    spk_i16 *currents = (spk_i16 *)spk_at(step->sums);
    for (unsigned i = 0; i < step->channels; ++i) {
        currents[i] = (int16_t)spk_clamp(sums[i] >> step->shift, 32767);
    }
    return currents;
}

static void run_pixel(const spk_step *step, int y, int x, unsigned pixel, unsigned first, unsigned last) {
    const int fixed = step->static_count == step->group_count; /* one current for all timesteps */
    const spk_i32 *sums = 0;
    const spk_i16 *currents = 0;
    for (unsigned t = first; t < last; ++t) {
        if (t == first || !fixed) {
            sums = add_groups(step, t, y, x);
            if (step->store_kind != SPK_STORE_LOGITS) {
                currents = close_sums(step, sums);
            }
        }
        if (step->store_kind == SPK_STORE_LOGITS) {
            spk_i32 *to = (spk_i32 *)spk_at(step->store.offset);
            for (unsigned i = 0; i < step->channels; ++i) {
                to[i] = (t == 0 ? 0 : to[i]) + (sums[i] >> step->shift);
            }
            continue;
        }
        if (step->store_kind == SPK_STORE_CURRENT) {
            spk_i16 *to = (spk_i16 *)spk_slot(&step->store, t) + pixel * step->channels;
            for (unsigned i = 0; i < step->channels; ++i) {
                to[i] = currents[i];
            }
        }
        for (unsigned i = 0; i < step->neuron_count; ++i) {
            fire(&step->neurons[i], currents, step->channels, t, pixel);
        }
    }
}

/* Computes timesteps first .. last - 1 of a step. */
void spk_run_step(const spk_step *step, unsigned first, unsigned last) {
    unsigned pixel = 0;
    for (int y = 0; y < step->height; ++y) {
        for (int x = 0; x < step->width; ++x, ++pixel) {
            run_pixel(step, y, x, pixel, first, last);
        }
    }
}

#endif
