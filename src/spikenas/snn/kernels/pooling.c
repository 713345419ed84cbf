/* The mean over windows of size x size pixels about each pixel, the zeros beyond the border included: average pooling of
   stride 1. Arrays are [images][height][width][channels]. A row of sums over the window's rows first, then sums along it,
   so that a window costs 2 size additions a value. It is its own transpose, hence its own backward pass. */

static void add_values(float *restrict sum, const value *restrict x, int64_t n) {
    for (int64_t i = 0; i < n; i++) sum[i] += load(x[i]);
}

static void add_floats(float *restrict sum, const float *restrict x, int64_t n) {
    for (int64_t i = 0; i < n; i++) sum[i] += x[i];
}

void window_means(const value *x, value *y, int64_t images, int64_t height, int64_t width, int64_t channels, int64_t size,
                  int threads) {
    int64_t row = width * channels, reach = size / 2, margin = reach * channels;
    float share = 1.0f / (float)(size * size);
#pragma omp parallel for num_threads(threads) schedule(static, 1)
    for (int part = 0; part < threads; part++) {
        float *columns = calloc((size_t)(row + 2 * margin), sizeof(float)); /* the margins stay 0 */
        float *sums = malloc((size_t)row * sizeof(float));
        for (int64_t line = images * height * part / threads; line < images * height * (part + 1) / threads; line++) {
            int64_t top = line % height - reach, bottom = line % height + reach, first = line - line % height;
            memset(columns + margin, 0, (size_t)row * sizeof(float));
            for (int64_t r = top < 0 ? 0 : top; r <= bottom && r < height; r++)
                add_values(columns + margin, x + (first + r) * row, row);
            memcpy(sums, columns, (size_t)row * sizeof(float));
            for (int64_t k = 1; k < size; k++) add_floats(sums, columns + k * channels, row);
            for (int64_t i = 0; i < row; i++) y[line * row + i] = store(share * sums[i]);
        }
        free(columns), free(sums);
    }
}
