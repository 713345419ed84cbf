/* Real values that enter a sum without weights. */
#include "lanes.h"
#include "spikenas_runtime.h"

#if (SPK_HAS_SKIP && !SPK_COMPACT) || SPK_HAS_POOL
static inline int32_t value_at(const spk_term *term, const uint8_t *slot, unsigned index) {
    return term->form == SPK_PIXELS ? ((const int8_t *)slot)[index] : ((const spk_i16 *)slot)[index];
}
#endif

#if SPK_HAS_SKIP && !SPK_COMPACT
/* Adds the values of one pixel, or of a whole map whose channels become the slowest index. */
void spk_skip(const spk_term *term, unsigned t, int y, int x, spk_sums *sums) {
    const uint8_t *slot = spk_slot(&term->place, t - term->delay);
    const unsigned taps = (unsigned)(term->window.kernel_h * term->window.kernel_w);
    unsigned index = (unsigned)(y * term->width + x) * term->channels;
    for (unsigned tap = 0; tap < taps; ++tap) {
        for (unsigned channel = 0; channel < term->channels; ++channel, ++index) {
            spk_add(sums, channel * taps + tap, value_at(term, slot, index));
        }
    }
}
#endif

#if SPK_HAS_POOL
/* Adds the sum of a window, or its mean rounded half up: (2 sum + n) / (2 n), by an exact reciprocal. */
void spk_pool(const spk_term *term, unsigned t, int y, int x, spk_sums *sums) {
    const spk_window *window = &term->window;
    const uint8_t *slot = spk_slot(&term->place, t - term->delay);
    const uint32_t n = (uint32_t)(window->kernel_h * window->kernel_w);
    y = y * window->stride_h - window->pad_h;
    x = x * window->stride_w - window->pad_w;
    for (unsigned channel = 0; channel < term->channels; ++channel) {
        int32_t total = 0;
        for (int i = y < 0 ? 0 : y; i < y + window->kernel_h && i < term->height; ++i) {
            for (int j = x < 0 ? 0 : x; j < x + window->kernel_w && j < term->width; ++j) {
                total += value_at(term, slot, (unsigned)(i * term->width + j) * term->channels + channel);
            }
        }
        if (term->reciprocal != 0) {
            const uint32_t positive = (uint32_t)(2 * total) + n + (n << 16); /* 2 (total + 32768 n) + n */
            total = (int32_t)(spk_high_product(positive, term->reciprocal) >> term->pool_shift) - 32768;
        }
        spk_add(sums, channel, total);
    }
}
#endif
