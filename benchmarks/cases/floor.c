/* The floor: EM for independent K-component Normal mixtures of scalar series, written as a
 * C programmer would for this one job. Each series makes all its iterations before the next;
 * inside, blocks of BLOCK observations pass through the E-step and into the sums of the
 * M-step without leaving the first-level cache. Compile with -DK=2 -DREAL=double (or float).
 *
 *   x (series, n); weights, loc, variance (series, K), overwritten by the last iteration;
 *   log_likelihood (series) at the parameters that the last iteration started from.
 */
#include <tgmath.h>

#define BLOCK 128
#define LOWEST ((REAL)(sizeof(REAL) == 4 ? -80 : -700)) /* below it exp is slow, and nothing */

typedef struct {
    REAL offset[K], loc[K], curvature[K]; /* log joint density: offset + curvature (x - loc)^2 */
} coefficients;

typedef struct {
    REAL count[K], d[K], dd[K], log_likelihood; /* of d = x - loc, weighted by responsibility */
} sums;

static inline coefficients prepare(const REAL *weights, const REAL *loc, const REAL *variance)
{
    coefficients c;
    for (int k = 0; k < K; k++) {
        c.offset[k] = log(weights[k]) - (REAL)0.5 * log((REAL)6.283185307179586 * variance[k]);
        c.loc[k] = loc[k];
        c.curvature[k] = (REAL)-0.5 / variance[k];
    }
    return c;
}

static inline void add_block(const REAL *x, int size, const coefficients *c, sums *s)
{
    REAL terms[K][BLOCK], top[BLOCK], norm[BLOCK], log_likelihood = 0;

    for (int k = 0; k < K; k++) {
        REAL offset = c->offset[k], loc = c->loc[k], curvature = c->curvature[k];
        for (int i = 0; i < size; i++) {
            REAL d = x[i] - loc, term = offset + curvature * d * d;
            terms[k][i] = term;
            top[i] = k && top[i] > term ? top[i] : term;
        }
    }
    for (int i = 0; i < size; i++)
        norm[i] = 0;
    for (int k = 0; k < K; k++)
        for (int i = 0; i < size; i++) {
            REAL below = terms[k][i] - top[i];
            REAL e = exp(below > LOWEST ? below : LOWEST);
            terms[k][i] = e;
            norm[i] += e;
        }
    for (int i = 0; i < size; i++) {
        log_likelihood += top[i] + log(norm[i]);
        norm[i] = 1 / norm[i];
    }
    s->log_likelihood += log_likelihood;
    for (int k = 0; k < K; k++) {
        REAL loc = c->loc[k], count = 0, sum_d = 0, sum_dd = 0;
        for (int i = 0; i < size; i++) {
            REAL d = x[i] - loc, r = terms[k][i] * norm[i];
            count += r;
            sum_d += r * d;
            sum_dd += r * d * d;
        }
        s->count[k] += count;
        s->d[k] += sum_d;
        s->dd[k] += sum_dd;
    }
}

static inline void maximise(const sums *s, int n, REAL *weights, REAL *loc, REAL *variance)
{
    for (int k = 0; k < K; k++) {
        REAL shift = s->d[k] / s->count[k];
        weights[k] = s->count[k] / n;
        loc[k] += shift;
        variance[k] = s->dd[k] / s->count[k] - shift * shift;
    }
}

void em(const REAL *x, int series, int n, int iterations, int threads, REAL *weights,
        REAL *loc, REAL *variance, REAL *log_likelihood)
{
#pragma omp parallel for schedule(dynamic, 8) num_threads(threads)
    for (int b = 0; b < series; b++) {
        const REAL *row = x + (long)b * n;
        REAL *w = weights + b * K, *m = loc + b * K, *v = variance + b * K;
        for (int t = 0; t < iterations; t++) {
            coefficients c = prepare(w, m, v);
            sums s = {0};
            for (int j = 0; j < n; j += BLOCK)
                add_block(row + j, n - j < BLOCK ? n - j : BLOCK, &c, &s);
            maximise(&s, n, w, m, v);
            log_likelihood[b] = s.log_likelihood;
        }
    }
}
