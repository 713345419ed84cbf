/* Finds the spikes that an output pixel sees. */
#include "lanes.h"
#include "spikenas_runtime.h"

SPK_INLINE uint32_t load(const uint8_t *pixel, unsigned bytes) {
    return bytes == 4 ? *(const spk_u32 *)pixel : bytes == 2 ? *(const spk_u16 *)pixel : *pixel;
}

#if SPK_HAS_ROWS

static void make_room(spk_events *events, spk_u16 *next, spk_sums *sums) {
    events->next = next;
    spk_add_rows(events, sums);
}

/* Lists the row of every spike in the view. */
SPK_INLINE void list_view(const spk_view *v, const uint8_t *units, unsigned bytes, int pooled, uint32_t words,
                          spk_events *events, spk_sums *sums) {
    const uint32_t row_step = v->row_step;
    const spk_u16 *limit = events->limit;
    spk_u16 *next = events->next;
    uint32_t line_row = v->row;
    unsigned lines = v->lines, down = v->down;
    do {
        uint32_t row = line_row;
        unsigned taps = v->taps;
        do {
            unsigned across = pooled ? v->across : 1;
            do {
                uint32_t spikes = load(units, bytes);
                units += bytes;
                if (spikes != 0) {
                    if (next > limit) {
                        make_room(events, next, sums);
                        next = events->next;
                    }
#if defined(SPK_REVERSES_BITS)
                    spikes = spk_reversed(spikes);
                    do {
                        const unsigned bit = (unsigned)__builtin_clz(spikes);
                        spikes &= ~(0x80000000u >> bit);
                        *next++ = (uint16_t)(row + bit * words);
                    } while (spikes != 0);
#else
                    do {
                        *next++ = (uint16_t)(row + spk_lowest_bit(spikes) * words);
                        spikes &= spikes - 1;
                    } while (spikes != 0);
#endif
                }
            } while (pooled && --across != 0);
            row += row_step;
        } while (--taps != 0);
        units += v->gap;
        if (!pooled || --down == 0) {
            down = v->down;
            line_row += v->line_step;
        }
    } while (--lines != 0);
    events->next = next;
}

/* Lists all spikes of a view, whose first unit is `units`. */
void spk_list(const spk_term *term, const spk_view *v, const uint8_t *units, spk_events *events, spk_sums *sums) {
    const int pooled = SPK_HAS_POOLED && v->across * v->down != 1;
    const uint32_t words = term->row_words;
    (void)pooled;
    switch (term->unit_bytes) {
#if SPK_HAS_UNIT_1
    case 1:
        list_view(v, units, 1, pooled, words, events, sums);
        break;
#endif
#if SPK_HAS_UNIT_2
    case 2:
        list_view(v, units, 2, pooled, words, events, sums);
        break;
#endif
    default:
#if SPK_HAS_UNIT_4
#if SPK_HAS_POOLED
        if (pooled) {
            list_view(v, units, 4, 1, words, events, sums);
            break;
        }
#endif
        list_view(v, units, 4, 0, words, events, sums);
#endif
        break;
    }
}

/* The lines of the window that output line y sees: once a line. */
void spk_look_down(const spk_term *term, int y, spk_view *v) {
    int first;
    y = y * term->window.stride_h - term->window.pad_h;
    v->seen_lines = spk_clip(y, term->window.kernel_h, term->map_h, &first);
    v->line = (unsigned)(y + first) * term->down * term->line_bytes;
    v->line_row = term->first + (uint32_t)first * term->line_words;
    v->row_step = term->units == 1 ? term->tap_words : 32u * term->row_words;
    v->line_step = term->line_words;
    v->lines = (unsigned)v->seen_lines * term->down;
    v->across = term->across;
    v->down = term->down;
}

#if SPK_HAS_RAGGED || SPK_HAS_OVERLAP
/* One tap: all pixels of its pool, unit by unit. */
static void list_tap(const spk_term *term, const uint8_t *slot, int y, int x, uint32_t row, spk_events *events,
                     spk_sums *sums) {
    const unsigned pixel_bytes = (unsigned)term->unit_bytes * term->units;
    int rows = 1, columns = 1, first_y = 0, first_x = 0;
    if (term->pool.kernel_h != 0) {
        y = y * term->pool.stride_h - term->pool.pad_h;
        x = x * term->pool.stride_w - term->pool.pad_w;
        rows = spk_clip(y, term->pool.kernel_h, term->height, &first_y);
        columns = spk_clip(x, term->pool.kernel_w, term->width, &first_x);
    }
    spk_view v; /* of which only what spk_list reads */
    v.row = row;
    v.row_step = 32u * term->row_words;
    v.taps = term->units;
    v.lines = v.across = v.down = 1;
    v.gap = 0;
    v.line_step = 0;
    for (int i = first_y; i < first_y + rows; ++i) {
        for (int j = first_x; j < first_x + columns; ++j) {
            const unsigned pixel = (unsigned)((y + i) * term->width + x + j);
            spk_list(term, &v, slot + pixel * pixel_bytes, events, sums);
        }
    }
}

static void list_taps(const spk_term *term, const uint8_t *slot, int y, int x, spk_events *events, spk_sums *sums) {
    const spk_window *window = &term->window;
    int first_y, first_x;
    y = y * window->stride_h - window->pad_h;
    x = x * window->stride_w - window->pad_w;
    const int lines = spk_clip(y, window->kernel_h, term->map_h, &first_y);
    const int taps = spk_clip(x, window->kernel_w, term->map_w, &first_x);
    for (int i = first_y; i < first_y + lines; ++i) {
        for (int j = first_x; j < first_x + taps; ++j) {
            const uint32_t row = term->first + (uint32_t)i * term->line_words + (uint32_t)j * term->tap_words;
            list_tap(term, slot, y + i, x + j, row, events, sums);
        }
    }
}
#endif

/* Lists the rows of all spikes in the window of output pixel (y, x). */
void spk_gather(const spk_term *term, unsigned t, int y, int x, spk_events *events, spk_sums *sums) {
    const uint8_t *slot = spk_slot(&term->place, t - term->delay);
    if (events->next != events->start && events->term->weights != term->weights) {
        spk_add_rows(events, sums);
    }
    events->term = term;
#if SPK_HAS_RAGGED || SPK_HAS_OVERLAP
    if (term->tap_by_tap) {
        list_taps(term, slot, y, x, events, sums);
        return;
    }
#endif
    spk_view v;
    spk_look_down(term, y, &v);
    if (spk_look_across(term, x, &v)) {
        spk_list(term, &v, slot + v.offset, events, sums);
    }
}

#endif

#if SPK_HAS_UNITS

/* Adds what one pixel's spikes contribute through tap `tap` of `taps`. */
static void scatter_pixel(const spk_term *term, const uint8_t *pixel, unsigned tap, unsigned taps, spk_sums *sums) {
    const int8_t *weights = (const int8_t *)term->weights;
    const int32_t factor = (int32_t)1 << term->left;
    unsigned base = 0;
    for (unsigned unit = term->units; unit != 0; --unit, base += 32, pixel += term->unit_bytes) {
        uint32_t spikes = load(pixel, term->unit_bytes);
        for (; spikes != 0; spikes &= spikes - 1) {
            const unsigned channel = base + spk_lowest_bit(spikes);
            if (weights == 0) {
                spk_add(sums, channel * taps + tap, 1); /* with several taps the map is being flattened */
                continue;
            }
            const unsigned out = ((channel * term->reciprocal) >> 16) * term->group_out;
            const int8_t *row = weights + (tap * term->channels + channel) * term->group_out;
            for (unsigned k = 0; k < term->group_out; ++k) {
                spk_add(sums, out + k, row[k] * factor);
            }
        }
    }
}

static void scatter_tap(const spk_term *term, const uint8_t *slot, int y, int x, unsigned tap, unsigned taps,
                        spk_sums *sums) {
    const spk_window *pool = &term->pool;
    const unsigned pixel_bytes = (unsigned)term->unit_bytes * term->units;
    int rows = 1, columns = 1, first_y = 0, first_x = 0;
    if (pool->kernel_h != 0) {
        y = y * pool->stride_h - pool->pad_h;
        x = x * pool->stride_w - pool->pad_w;
        rows = spk_clip(y, pool->kernel_h, term->height, &first_y);
        columns = spk_clip(x, pool->kernel_w, term->width, &first_x);
    }
    for (int i = first_y; i < first_y + rows; ++i) {
        for (int j = first_x; j < first_x + columns; ++j) {
            const unsigned pixel = (unsigned)((y + i) * term->width + x + j);
            scatter_pixel(term, slot + pixel * pixel_bytes, tap, taps, sums);
        }
    }
}

/* Adds single weights, or ones, for all spikes in the window of output pixel (y, x). */
void spk_scatter(const spk_term *term, unsigned t, int y, int x, spk_sums *sums) {
    const spk_window *window = &term->window;
    const uint8_t *slot = spk_slot(&term->place, t - term->delay);
    int first_y, first_x;
    y = y * window->stride_h - window->pad_h;
    x = x * window->stride_w - window->pad_w;
    const int rows = spk_clip(y, window->kernel_h, term->map_h, &first_y);
    const int columns = spk_clip(x, window->kernel_w, term->map_w, &first_x);
    for (int i = first_y; i < first_y + rows; ++i) {
        for (int j = first_x; j < first_x + columns; ++j) {
            scatter_tap(term, slot, y + i, x + j, (unsigned)(i * window->kernel_w + j),
                        (unsigned)(window->kernel_h * window->kernel_w), sums);
        }
    }
}

#endif
