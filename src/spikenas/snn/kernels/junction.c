/* A junction: currents, each with its BatchNorm, added up and integrated by one neuron, for all timesteps at once.

   What lies between two convolutions of a spiking network moves memory more than it computes, so one pass reads each
   current once and writes each result once; all between stays in the first-level cache, a block of rows at a time.
   Arrays are [time][rows][channels], channels last; a current with one timestep is the same at every step. Membranes
   and thresholds are over the neuron's gain, as in neuron.py, which defines the arithmetic. The backward pass computes
   the membranes again instead of keeping them.

   Results depend on the number of threads only by the order of sums. */

#ifndef BLOCK
#define BLOCK 512
#endif
enum { FLUSH = 128 };

typedef struct {
    const value *x;
    int64_t steps;      /* 1 or as many as there are */
    const float *scale; /* [channels]; 0: neither scale nor shift */
    const float *shift;
    const float *mean; /* backward: what the second sum is centred on */
    double *sums;      /* backward: [2][channels], of the gradient and of its product with x - mean; or 0 */
} term;

typedef struct {
    int64_t terms, rows, channels, steps; /* steps of the neuron */
    int64_t sum_steps;                    /* 1 when every term is the same at every step, else steps */
    float decay, threshold, slope_a, slope_b;
    int32_t reset_to_zero, fires; /* fires: there is a neuron */
    int32_t as_rates;             /* spikes are their mean over all steps, [1] */
    value *sum;                   /* the sum itself, [sum_steps], or 0 */
    value *spikes;
    int64_t count; /* of spikes, out */
    /* backward */
    const value *grad_sum, *grad_spikes; /* either may be 0 */
    float grad_count;                    /* added to the gradient of each spike */
    int32_t wants_grad_decay;
    double grad_decay; /* out */
    value *grad;       /* of the sum, all readers together, [sum_steps], out */
} junction;

/* Parameters repeated over the rows of a block, so that inner loops run over whole blocks whatever the channels. */
typedef struct {
    float *scale, *shift, *mean, *sum, *product;
} row_block;

static int64_t rows_of_block(int64_t channels) { return channels >= BLOCK ? 1 : BLOCK / channels; }

static float *repeated(const float *values, int64_t channels, int64_t length) {
    float *out = malloc((size_t)length * sizeof(float));
    for (int64_t i = 0; out && i < length; i++) out[i] = values[i % channels];
    return out;
}

static void set_term(float *restrict sum, const value *restrict x, const float *restrict scale,
                     const float *restrict shift, int64_t n) {
    if (scale) for (int64_t i = 0; i < n; i++) sum[i] = scale[i] * load(x[i]) + shift[i];
    else for (int64_t i = 0; i < n; i++) sum[i] = load(x[i]);
}

static void add_term(float *restrict sum, const value *restrict x, const float *restrict scale,
                     const float *restrict shift, int64_t n) {
    if (scale) for (int64_t i = 0; i < n; i++) sum[i] += scale[i] * load(x[i]) + shift[i];
    else for (int64_t i = 0; i < n; i++) sum[i] += load(x[i]);
}

static void sum_terms(const junction *j, const term *terms, const row_block *blocks, float *sums, int64_t at, int64_t n,
                      int64_t length) {
    int64_t stride = j->rows * j->channels;
    for (int64_t t = 0; t < j->sum_steps; t++) {
        for (int64_t k = 0; k < j->terms; k++) {
            const value *x = terms[k].x + (terms[k].steps > 1 ? t * stride : 0) + at;
            (k ? add_term : set_term)(sums + t * length, x, blocks[k].scale, blocks[k].shift, n);
        }
    }
}

static int64_t fire(const junction *j, const float *restrict current, float *restrict v, value *restrict spikes,
                    int64_t n) {
    const float threshold = j->threshold, decay = j->decay;
    const value one = store(1.0f), none = store(0.0f);
    int32_t count = 0;
    if (j->reset_to_zero) {
        for (int64_t i = 0; i < n; i++) {
            float u = current[i] + decay * v[i];
            int fired = u >= threshold;
            spikes[i] = fired ? one : none;
            v[i] = fired ? 0.0f : u;
            count += fired;
        }
    } else {
        for (int64_t i = 0; i < n; i++) {
            float u = current[i] + decay * v[i];
            int fired = u >= threshold;
            spikes[i] = fired ? one : none;
            v[i] = fired ? u - threshold : u;
            count += fired;
        }
    }
    return count;
}

static void free_blocks(row_block *blocks, int64_t terms) {
    for (int64_t k = 0; blocks && k < terms; k++) {
        free(blocks[k].scale), free(blocks[k].shift), free(blocks[k].mean), free(blocks[k].sum), free(blocks[k].product);
    }
    free(blocks);
}

static row_block *make_blocks(const junction *j, const term *terms, int64_t length) {
    row_block *blocks = calloc((size_t)j->terms, sizeof(row_block));
    for (int64_t k = 0; k < j->terms; k++) {
        const term *t = &terms[k];
        if (t->scale) blocks[k].scale = repeated(t->scale, j->channels, length);
        if (t->shift) blocks[k].shift = repeated(t->shift, j->channels, length);
        if (t->mean) blocks[k].mean = repeated(t->mean, j->channels, length);
        if (t->sums) {
            blocks[k].sum = calloc((size_t)length, sizeof(float));
            blocks[k].product = calloc((size_t)length, sizeof(float));
        }
    }
    return blocks;
}

static void flush(const junction *j, row_block *block, double *sums, int64_t length) {
    for (int64_t i = 0; i < length; i++) {
        sums[i % j->channels] += block->sum[i];
        sums[j->channels + i % j->channels] += block->product[i];
    }
    memset(block->sum, 0, (size_t)length * sizeof(float));
    memset(block->product, 0, (size_t)length * sizeof(float));
}

/* Sums and sums of squares of each channel, [2][channels], about `centre`. */
void moments(const value *x, const float *centre, int64_t rows, int64_t channels, double *out, double *partial,
             int threads) {
    int64_t per_block = rows_of_block(channels), length = per_block * channels;
    int64_t blocks = (rows + per_block - 1) / per_block;
#pragma omp parallel for num_threads(threads) schedule(static, 1)
    for (int part = 0; part < threads; part++) {
        double *mine = partial + part * 2 * channels;
        float *middle = repeated(centre, channels, length);
        float *sum = calloc((size_t)length, sizeof(float)), *square = calloc((size_t)length, sizeof(float));
        int64_t first = blocks * part / threads, last = blocks * (part + 1) / threads;
        memset(mine, 0, (size_t)(2 * channels) * sizeof(double));
        for (int64_t b = first; b < last; b++) {
            int64_t left = (rows - b * per_block) * channels, n = left < length ? left : length;
            const value *restrict from = x + b * length;
            for (int64_t i = 0; i < n; i++) {
                float y = load(from[i]) - middle[i];
                sum[i] += y;
                square[i] += y * y;
            }
            if ((b - first) % FLUSH == FLUSH - 1 || b == last - 1) {
                for (int64_t i = 0; i < length; i++) {
                    mine[i % channels] += sum[i];
                    mine[channels + i % channels] += square[i];
                }
                memset(sum, 0, (size_t)length * sizeof(float));
                memset(square, 0, (size_t)length * sizeof(float));
            }
        }
        free(middle), free(sum), free(square);
    }
    for (int64_t i = 0; i < 2 * channels; i++) {
        out[i] = 0.0;
        for (int part = 0; part < threads; part++) out[i] += partial[part * 2 * channels + i];
    }
}

void forward(junction *j, const term *terms, int threads) {
    int64_t per_block = rows_of_block(j->channels), length = per_block * j->channels;
    int64_t blocks = (j->rows + per_block - 1) / per_block, stride = j->rows * j->channels, count = 0;
#pragma omp parallel for num_threads(threads) schedule(static, 1) reduction(+ : count)
    for (int part = 0; part < threads; part++) {
        row_block *parameters = make_blocks(j, terms, length);
        float *sums = malloc((size_t)(j->sum_steps * length) * sizeof(float));
        float *v = malloc((size_t)length * sizeof(float)), *rate = malloc((size_t)length * sizeof(float));
        value *fired = malloc((size_t)length * sizeof(value));
        int64_t first = blocks * part / threads, last = blocks * (part + 1) / threads;
        for (int64_t b = first; b < last; b++) {
            int64_t at = b * length, n = stride - at < length ? stride - at : length;
            sum_terms(j, terms, parameters, sums, at, n, length);
            for (int64_t t = 0; j->sum && t < j->sum_steps; t++) {
                value *restrict out = j->sum + t * stride + at;
                const float *restrict from = sums + t * length;
                for (int64_t i = 0; i < n; i++) out[i] = store(from[i]);
            }
            memset(v, 0, (size_t)length * sizeof(float));
            for (int64_t t = 0; j->fires && t < j->steps; t++) {
                const float *current = sums + (j->sum_steps > 1 ? t * length : 0);
                count += fire(j, current, v, j->as_rates ? fired : j->spikes + t * stride + at, n);
                if (j->as_rates) (t ? add_term : set_term)(rate, fired, 0, 0, n);
            }
            for (int64_t i = 0; j->as_rates && i < n; i++) j->spikes[at + i] = store(rate[i] / (float)j->steps);
        }
        free(sums), free(v), free(rate), free(fired), free_blocks(parameters, j->terms);
    }
    j->count = count;
}

/* Membranes of all steps into u, [steps][length]. */
static void membranes(const junction *j, const float *sums, float *u, float *v, int64_t n, int64_t length) {
    const float threshold = j->threshold, decay = j->decay, kept = j->reset_to_zero ? 0.0f : 1.0f;
    memset(v, 0, (size_t)n * sizeof(float));
    for (int64_t t = 0; t < j->steps; t++) {
        const float *restrict current = sums + (j->sum_steps > 1 ? t * length : 0);
        float *restrict now = u + t * length, *restrict left = v;
        for (int64_t i = 0; i < n; i++) {
            float x = current[i] + decay * left[i];
            now[i] = x;
            left[i] = x >= threshold ? kept * (x - threshold) : x;
        }
    }
}

/* The gradient of the sum, [sum_steps][length], from those of the spikes and of the sum's other readers; returns that
   of the decay. `later`: the gradient at the membrane of the step after, zero before the last. */
static double gradient(const junction *j, const float *u, float *later, float *grads, int64_t at, int64_t n,
                       int64_t length) {
    int64_t stride = j->rows * j->channels;
    const float threshold = j->threshold, a = j->slope_a, b = j->slope_b, kept = j->reset_to_zero ? 0.0f : 1.0f;
    const float decay = j->decay, more = j->grad_count, share = j->as_rates ? 1.0f / (float)j->steps : 1.0f;
    double grad_decay = 0.0;
    memset(later, 0, (size_t)n * sizeof(float));
    for (int64_t t = j->steps - 1; t >= 0; t--) {
        const value *restrict from = j->grad_spikes + (j->as_rates ? 0 : t * stride) + at;
        const float *restrict now = u + t * length;
        float *restrict back = later;
        for (int64_t i = 0; i < n; i++) {
            float distance = now[i] - threshold;
            float through = distance >= 0.0f ? kept * back[i] : back[i];
            back[i] = (share * load(from[i]) + more) / (a + b * distance * distance) + decay * through;
        }
        float *restrict out = grads + (j->sum_steps > 1 ? t * length : 0);
        if (j->sum_steps > 1 || t == j->steps - 1) memcpy(out, back, (size_t)n * sizeof(float));
        else for (int64_t i = 0; i < n; i++) out[i] += back[i];
        if (j->wants_grad_decay && t > 0) {
            const float *restrict before = u + (t - 1) * length;
            float sum = 0.0f;
            for (int64_t i = 0; i < n; i++) {
                float left = before[i] >= threshold ? kept * (before[i] - threshold) : before[i];
                sum += back[i] * left;
            }
            grad_decay += sum;
        }
    }
    return grad_decay;
}

static void add_sums(row_block *block, const float *restrict g, const value *restrict x, int64_t n) {
    float *restrict sum = block->sum, *restrict product = block->product;
    const float *restrict mean = block->mean;
    for (int64_t i = 0; i < n; i++) {
        sum[i] += g[i];
        product[i] += g[i] * (load(x[i]) - mean[i]);
    }
}

/* The gradient of the sum, that of the decay, and for each term with `sums` those. `partial`: [threads][terms][2]
   [channels]. */
void backward(junction *j, const term *terms, double *partial, int threads) {
    int64_t per_block = rows_of_block(j->channels), length = per_block * j->channels;
    int64_t blocks = (j->rows + per_block - 1) / per_block, stride = j->rows * j->channels;
    double *decays = calloc((size_t)threads, sizeof(double));
#pragma omp parallel for num_threads(threads) schedule(static, 1)
    for (int part = 0; part < threads; part++) {
        row_block *parameters = make_blocks(j, terms, length);
        size_t step = (size_t)length * sizeof(float);
        float *sums = malloc(step * (size_t)j->sum_steps), *grads = calloc((size_t)j->sum_steps, step);
        float *u = malloc(step * (size_t)j->steps), *v = malloc(step);
        double *mine = partial + (int64_t)part * j->terms * 2 * j->channels;
        int64_t first = blocks * part / threads, last = blocks * (part + 1) / threads;
        memset(mine, 0, (size_t)(j->terms * 2 * j->channels) * sizeof(double));
        for (int64_t b = first; b < last; b++) {
            int64_t at = b * length, n = stride - at < length ? stride - at : length;
            int ends = (b - first) % FLUSH == FLUSH - 1 || b == last - 1;
            if (j->grad_spikes) {
                sum_terms(j, terms, parameters, sums, at, n, length);
                membranes(j, sums, u, v, n, length);
                decays[part] += gradient(j, u, v, grads, at, n, length);
            }
            for (int64_t t = 0; t < j->sum_steps; t++) {
                float *restrict g = grads + t * length;
                value *restrict out = j->grad + t * stride + at;
                if (j->grad_sum)
                    (j->grad_spikes ? add_term : set_term)(g, j->grad_sum + t * stride + at, 0, 0, n);
                for (int64_t i = 0; i < n; i++) out[i] = store(g[i]);
                for (int64_t k = 0; k < j->terms; k++) {
                    const value *x = terms[k].x + (terms[k].steps > 1 ? t * stride : 0) + at;
                    if (terms[k].sums) add_sums(&parameters[k], g, x, n);
                }
            }
            for (int64_t k = 0; k < j->terms; k++)
                if (terms[k].sums && ends) flush(j, &parameters[k], mine + k * 2 * j->channels, length);
        }
        free(sums), free(grads), free(u), free(v), free_blocks(parameters, j->terms);
    }
    for (int64_t k = 0; k < j->terms; k++)
        for (int64_t i = 0; terms[k].sums && i < 2 * j->channels; i++) {
            terms[k].sums[i] = 0.0;
            for (int part = 0; part < threads; part++)
                terms[k].sums[i] += partial[((int64_t)part * j->terms + k) * 2 * j->channels + i];
        }
    j->grad_decay = 0.0;
    for (int part = 0; part < threads; part++) j->grad_decay += decays[part];
    free(decays);
}

/* The gradient of a term: dx = scale * grad + shift + slope * x, where a term that is the same at every step gets the
   sum of all steps. dx may be grad, x may be 0 where there is no slope. */
void term_gradient(const value *grad, int64_t grad_steps, const value *x, value *dx, int64_t steps, int64_t rows,
                   int64_t channels, const float *scale, const float *shift, const float *slope, int threads) {
    int64_t per_block = rows_of_block(channels), length = per_block * channels, stride = rows * channels;
    int64_t blocks = (rows + per_block - 1) / per_block;
#pragma omp parallel for num_threads(threads) schedule(static, 1)
    for (int part = 0; part < threads; part++) {
        float *a = repeated(scale, channels, length), *b = repeated(shift, channels, length);
        float *c = repeated(slope, channels, length), *total = malloc((size_t)length * sizeof(float));
        for (int64_t block = blocks * part / threads; block < blocks * (part + 1) / threads; block++)
            for (int64_t t = 0; t < steps; t++) {
                int64_t at = block * length, n = stride - at < length ? stride - at : length, here = t * stride + at;
                set_term(total, grad + here, 0, 0, n);
                for (int64_t step = 1; steps == 1 && step < grad_steps; step++)
                    add_term(total, grad + step * stride + at, 0, 0, n);
                for (int64_t i = 0; i < n; i++) dx[here + i] = store(a[i] * total[i] + b[i] + c[i] * load(x[here + i]));
            }
        free(a), free(b), free(c), free(total);
    }
}
