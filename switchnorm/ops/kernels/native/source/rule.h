// From moments to what a normalizer uses, and the way back of the gradients: switchnorm/ops/rule.py, on tables in double.
#pragma once
#include "importance.h"

// Channels of a tile of tables.
const int64_t TILE = 128;

INLINE double non_negative(double v) { return v < 0 ? 0 : v; }
INLINE double at_least_one(double v) { return v < 1 ? 1 : v; }

struct Rule {
    const Call& call;
    int64_t n, c, size, k;
    double factor;     // from the population variance of a map to the one that is used
    double largest;    // finite variance, in the arithmetic of elements
    bool fixed;        // only running statistics count: no moments
    bool coupled;      // a statistic is taken over samples
    bool ready;
    bool tables = false;  // of single passes are given, and are no results of the rule
    double *weight, *bias, *running_mean, *running_var;      // (C,)
    double *mean_importance, *var_importance;                // (K,): the points of the faces
    Face faces[2];
    bool* counts;                                            // (K,): the statistic has importance, or a gradient of it
    double *mean, *var, *deviation;                          // (N, C); the last is 1 / sqrt(var' + eps)
    double **mean_of, **var_of;                              // (K,): tables (N, G) or (parts, C)
    double **mean_pull, **var_pull;                          // (K,): sums of gradients over the entries of a pool
    double *total, *product;                                 // (N, C): sums of dz and of dz * normalized x
    double *dots, *tile_dots;                                // (N, 2 K + 2), (parts, tiles, 2 K)
    double *grads, *own;                                     // of all logits, twice; (K,)
    bool asks_samples, asks_channels;                        // which sums the backward pass needs
    Memory memory;

    static int64_t entries(const Call& call, int64_t k) {
        int64_t kind = call.kinds[k];
        return kind > 0 ? call.samples * kind : kind == BATCH ? call.parts * call.channels : 0;
    }
    static int64_t tiles(const Call& call) { return (call.channels + TILE - 1) / TILE; }
    static int64_t pooled(const Call& call) {
        int64_t found = 0;
        for (int64_t k = 0; k < call.statistics; k++) found += 2 * entries(call, k);
        return found;
    }
    static int64_t kept(const Call& call) {
        return 3 * call.samples * call.channels + pooled(call) + 2 * Face::numbers(call.statistics);
    }
    static int64_t numbers(const Call& call, bool backward) {
        int64_t found = 4 * call.channels + 9 * call.statistics + 2 * call.logits;
        if (!call.saved) found += kept(call);
        if (backward)
            found += 2 * call.samples * call.channels + pooled(call) + call.samples * (2 * call.statistics + 2) +
                     tiles(call) * call.parts * 2 * call.statistics;
        return found;
    }

    Rule(const Call& call, bool backward)
        : call(call), n(call.samples), c(call.channels), size(call.size), k(call.statistics),
          memory(8 * numbers(call, backward)) {
        ready = memory.held != nullptr;
        if (!ready) return;
        double* next = (double*)memory.held;
        auto take = [&](int64_t count) { return next += count, next - count; };
        largest = call.dtype == DOUBLE ? __DBL_MAX__ : __FLT_MAX__;
        factor = call.flags & UNBIASED && size > 1 ? (double)size / (double)(size - 1) : 1;
        counts = (bool*)take(k);
        mean_of = (double**)take(k), var_of = (double**)take(k);
        mean_pull = (double**)take(k), var_pull = (double**)take(k);
        double* work = take(3 * k);
        own = work;
        grads = take(2 * call.logits);
        weight = take(c), bias = take(c), running_mean = take(c), running_var = take(c);
        fill(weight, call.weight, call.affine_dtype, 1);
        fill(bias, call.bias, call.affine_dtype, 0);
        double* held = next;
        if (call.saved) next = call.saved;
        for (Face& face : faces) face.lie_in(take(Face::numbers(k)), k);
        mean_importance = faces[0].point, var_importance = faces[1].point;
        if (!backward) project(work);
        fixed = true, coupled = false;
        bool running = false, grouped = false;
        for (int64_t i = 0; i < k; i++) {
            int64_t kind = call.kinds[i];
            // In training the batch statistic is taken even where its importance is 0, for running statistics.
            counts[i] = call.flags & LEARNS || mean_importance[i] != 0 || var_importance[i] != 0 || kind == BATCH;
            running = running || kind == RUNNING;
            coupled = coupled || kind == BATCH;
            grouped = grouped || kind > 0;
            if (counts[i] && kind != RUNNING) fixed = false;
        }
        if (running) {
            fill(running_mean, call.running_mean, call.running_dtype, 0);
            fill(running_var, call.running_var, call.running_dtype, 0);
        }
        mean = take(n * c), var = take(n * c), deviation = take(n * c);
        for (int64_t i = 0; i < k; i++) {
            int64_t count = entries(call, i);
            mean_of[i] = take(count), var_of[i] = take(count);
        }
        if (call.saved) next = held;
        if (backward) {
            total = take(n * c), product = take(n * c);
            for (int64_t i = 0; i < k; i++) {
                int64_t count = entries(call, i);
                mean_pull[i] = take(count), var_pull[i] = take(count);
            }
            dots = take(n * (2 * k + 2)), tile_dots = take(tiles(call) * call.parts * 2 * k);
            bool learns = call.mean_grad || call.var_grad;
            asks_samples = grouped || learns;
            asks_channels = coupled || (running && learns);
            if (!asks_channels)
                for (int64_t i = 0; i < tiles(call) * call.parts * 2 * k; i++) tile_dots[i] = 0;
        }
    }

    void fill(double* out, const void* table, int64_t dtype, double otherwise) {
        if (table) read_table(table, dtype, c, out);
        else for (int64_t i = 0; i < c; i++) out[i] = otherwise;
    }

    void project(double* work) {
        const void* given[2] = {call.mean_logits, call.var_logits};
        const int64_t* choices[2] = {call.mean_fixed, call.var_fixed};
        bool wide = call.importance_dtype == DOUBLE;
        double* logits[2] = {grads, grads + call.logits};
        for (int i = 0; i < 2; i++)
            if (given[i]) read_table(given[i], call.importance_dtype, call.logits, logits[i]);
        for (int64_t j = 0; call.tied && j < call.logits; j++) {
            double middle = (logits[0][j] + logits[1][j]) / 2;
            logits[0][j] = logits[1][j] = wide ? middle : (float)middle;
        }
        for (int i = 0; i < 2; i++) {
            double* out = faces[i].point;
            *faces[i].final = 0;
            for (int64_t j = 0; j < k; j++) out[j] = given[i] ? logits[i][call.members[j]] : 1;
            if (!given[i] || call.projection == GIVEN) {
                // It is importance already.
            } else if (call.projection == SOFTMAX) {
                softmax(out, k, out);
            } else {
                double radius = 1;
                *faces[i].final = *choices[i] > 0;
                if (!*faces[i].final) read_table(call.radius, call.radius_dtype, 1, &radius);
                for (int64_t j = 0; j < k; j++) logits[i][j] = out[j];
                sparsestmax(logits[i], k, radius * radius, call.projection == SPARSE_SUPPORT, &faces[i], work);
            }
            // The same numbers as those that a layer reports as its importance.
            for (int64_t j = 0; j < k && !wide; j++) out[j] = (float)out[j];
            if (i == 0) level_out(out);
        }
    }

    // Importance that sums to 1 but for rounding is made to: all means share the level of x, which would multiply the rest.
    void level_out(double* importance) {
        double sum = 0;
        for (int64_t i = 0; i < k; i++) sum += importance[i];
        if (sum > 0.99 && sum < 1.01)
            for (int64_t i = 0; i < k; i++) importance[i] /= sum;
    }

    // A variance as the arithmetic of elements holds it: where that has no such number, all that is normalized is shift.
    INLINE double in_range(double v) const { return v > largest ? __builtin_inf() : v; }

    // Samples of a part of the batch.
    int64_t start_of(int64_t part) const { return part ? call.ends[part - 1] : 0; }

    // Group statistics of a sample.
    void derive_sample(int64_t sample) const {
#pragma clang fp reassociate(on) contract(fast)
        for (int64_t i = 0; i < k; i++) {
            int64_t groups = call.kinds[i];
            if (groups <= 0 || !counts[i]) continue;
            int64_t width = c / groups;
            for (int64_t g = 0; g < groups; g++) {
                const double *m = mean + sample * c + g * width, *v = var + sample * c + g * width;
                double pivot = m[0], first = 0, second = 0;
                for (int64_t j = 0; j < width; j++) {
                    double d = m[j] - pivot;
                    first += d;
                    second += v[j] + d * d;
                }
                pool(first, second, pivot, width, mean_of[i] + sample * groups + g, var_of[i] + sample * groups + g);
            }
        }
    }

    // A pool's statistic from sums of its entries about one of them, which is near enough that no digits are lost.
    INLINE void pool(double first, double second, double pivot, int64_t entries, double* m, double* v) const {
        double count = (double)entries, shift = first / count;
        double spread = second * 0 == 0 ? non_negative(second / count - shift * shift) : second;
        if (call.flags & FLAT) spread *= count / at_least_one(count - 1);
        *m = pivot + shift;
        *v = in_range(spread);
    }

    // Batch statistics of a part of the batch, for some channels.
    void derive_channels(int64_t part, int64_t from, int64_t to) const {
#pragma clang fp contract(fast)
        int64_t start = start_of(part), end = call.ends[part];
        for (int64_t i = 0; i < k; i++) {
            if (call.kinds[i] != BATCH) continue;
            for (int64_t at = from; at < to; at += TILE) {
                int64_t count = to - at < TILE ? to - at : TILE;
                double first[TILE] = {}, second[TILE] = {};
                const double* pivot = mean + start * c + at;
                for (int64_t s = start; s < end; s++) {
                    const double *m = mean + s * c + at, *v = var + s * c + at;
                    for (int64_t j = 0; j < count; j++) {
                        double d = m[j] - pivot[j];
                        first[j] += d;
                        second[j] += v[j] + d * d;
                    }
                }
                double *m = mean_of[i] + part * c + at, *v = var_of[i] + part * c + at;
                for (int64_t j = 0; j < count; j++) pool(first[j], second[j], pivot[j], end - start, m + j, v + j);
            }
        }
    }

    // The mixed mean and variance of a sample's channels from `from` to `to`, at most a tile of them.
    INLINE void mix(int64_t sample, int64_t part, int64_t from, int64_t to, double* m, double* v) const {
#pragma clang fp contract(fast)
        int64_t count = to - from;
        for (int64_t j = 0; j < count; j++) m[j] = v[j] = 0;
        for (int64_t i = 0; i < k; i++) {
            if (!counts[i]) continue;
            int64_t kind = call.kinds[i];
            double a = mean_importance[i], b = var_importance[i];
            if (kind > 0) {
                int64_t width = c / kind;
                for (int64_t j = 0; j < count;) {
                    int64_t g = (from + j) / width, end = (g + 1) * width - from;
                    double gm = a * mean_of[i][sample * kind + g], gv = b * var_of[i][sample * kind + g];
                    if (end > count) end = count;
                    for (; j < end; j++) m[j] += gm, v[j] += gv;
                }
                continue;
            }
            const double *tm, *tv;
            if (kind == INSTANCE) tm = mean + sample * c + from, tv = var + sample * c + from;
            else if (kind == BATCH) tm = mean_of[i] + part * c + from, tv = var_of[i] + part * c + from;
            else tm = running_mean + from, tv = running_var + from;
            for (int64_t j = 0; j < count; j++) m[j] += a * tm[j], v[j] += b * tv[j];
        }
    }

    double* deviations(int64_t sample) const { return deviation + (fixed ? 0 : sample * c); }

    // The gradients of the mixed mean and variance, up to their factors of -1 and -1/2.
    INLINE void pulls(int64_t sample, int64_t from, int64_t to, double* of_mean, double* of_var) const {
        const double *t = total + sample * c + from, *p = product + sample * c + from, *d = deviations(sample) + from;
        for (int64_t j = 0; j < to - from; j++) {
            double scale = d[j] * weight[from + j];
            of_mean[j] = t[j] * scale;
            of_var[j] = p[j] * d[j] * scale;
        }
    }

    // Sums over the groups of a sample, and what of the importance's gradient lies within it.
    void pull_sample(int64_t sample) const {
#pragma clang fp reassociate(on) contract(fast)
        double* dot = dots + sample * (2 * k + 2);
        for (int64_t i = 0; i < 2 * k + 2; i++) dot[i] = 0;
        for (int64_t i = 0; i < k; i++)
            if (call.kinds[i] > 0)
                for (int64_t g = 0; g < call.kinds[i]; g++)
                    mean_pull[i][sample * call.kinds[i] + g] = var_pull[i][sample * call.kinds[i] + g] = 0;
        double of_mean[TILE], of_var[TILE], all = 0, level = 0;
        for (int64_t at = 0; at < c; at += TILE) {
            int64_t count = c - at < TILE ? c - at : TILE;
            const double *m = mean + sample * c + at, *v = var + sample * c + at;
            pulls(sample, at, at + count, of_mean, of_var);
            for (int64_t j = 0; j < count; j++) all += of_mean[j];
            if (!fixed)
                for (int64_t j = 0; j < count; j++) level += m[j];
            for (int64_t i = 0; i < k; i++) {
                int64_t kind = call.kinds[i];
                if (!counts[i]) continue;
                if (kind == INSTANCE) {
                    double first = 0, second = 0;
                    for (int64_t j = 0; j < count; j++) first += of_mean[j] * m[j], second += of_var[j] * v[j];
                    dot[2 * i] += first, dot[2 * i + 1] += second;
                } else if (kind > 0) {
                    int64_t width = c / kind;
                    for (int64_t j = 0; j < count;) {
                        int64_t g = (at + j) / width, end = (g + 1) * width - at;
                        if (end > count) end = count;
                        double first = 0, second = 0;
                        for (; j < end; j++) first += of_mean[j], second += of_var[j];
                        mean_pull[i][sample * kind + g] += first;
                        var_pull[i][sample * kind + g] += second;
                    }
                }
            }
        }
        dot[2 * k] = all, dot[2 * k + 1] = level / (double)c;
        for (int64_t i = 0; i < k; i++)
            if (call.kinds[i] > 0 && counts[i])
                for (int64_t g = 0; g < call.kinds[i]; g++) {
                    int64_t at = sample * call.kinds[i] + g;
                    dot[2 * i] += mean_of[i][at] * mean_pull[i][at];
                    dot[2 * i + 1] += var_of[i][at] * var_pull[i][at];
                }
    }

    // Sums over a part of the batch for the channels of a tile.
    void pull_channels(int64_t part, int64_t tile) const {
#pragma clang fp reassociate(on) contract(fast)
        int64_t from = tile * TILE, to = c - from < TILE ? c : from + TILE, count = to - from;
        double of_mean[TILE], of_var[TILE], first[TILE] = {}, second[TILE] = {};
        for (int64_t s = start_of(part); s < call.ends[part]; s++) {
            pulls(s, from, to, of_mean, of_var);
            for (int64_t j = 0; j < count; j++) first[j] += of_mean[j], second[j] += of_var[j];
        }
        for (int64_t i = 0; i < k; i++) {
            double *dot = tile_dots + (part * tiles(call) + tile) * 2 * k + 2 * i, a = 0, b = 0;
            if (call.kinds[i] == BATCH) {
                const double *m = mean_of[i] + part * c + from, *v = var_of[i] + part * c + from;
                for (int64_t j = 0; j < count; j++) {
                    mean_pull[i][part * c + from + j] = first[j];
                    var_pull[i][part * c + from + j] = second[j];
                    a += m[j] * first[j], b += v[j] * second[j];
                }
            } else if (call.kinds[i] == RUNNING) {
                for (int64_t j = 0; j < count; j++)
                    a += running_mean[from + j] * first[j], b += running_var[from + j] * second[j];
            }
            dot[0] = a, dot[1] = b;
        }
    }

    // The gradients of the mean and the variance of a sample's maps, divided by what a map's elements share.
    INLINE void through(int64_t sample, int64_t part, int64_t from, int64_t to, double* of_mean, double* of_var) const {
#pragma clang fp contract(fast)
        int64_t count = to - from;
        double share = 1 / (double)size, unit = 2 * factor;
        double pm[TILE], pv[TILE];
        const double* own = mean + sample * c + from;
        for (int64_t j = 0; j < count; j++) of_mean[j] = of_var[j] = 0;
        for (int64_t i = 0; i < k; i++) {
            int64_t kind = call.kinds[i];
            if (!counts[i] || kind == RUNNING) continue;
            double a = -share * mean_importance[i], b = -share / 2 * unit * var_importance[i];
            if (kind == INSTANCE) {
                pulls(sample, from, to, pm, pv);
                for (int64_t j = 0; j < count; j++) of_mean[j] += a * pm[j], of_var[j] += b * pv[j];
                continue;
            }
            double entries = kind == BATCH ? (double)(call.ends[part] - start_of(part)) : (double)(c / kind);
            a /= entries, b /= at_least_one(entries - (call.flags & FLAT ? 1 : 0));
            if (kind == BATCH) {
                const double *m = mean_of[i] + part * c + from;
                const double *gm = mean_pull[i] + part * c + from, *gv = var_pull[i] + part * c + from;
                for (int64_t j = 0; j < count; j++) {
                    double v = b * gv[j];
                    of_mean[j] += a * gm[j] + 2 / unit * (own[j] - m[j]) * v;
                    of_var[j] += v;
                }
                continue;
            }
            int64_t width = c / kind;
            for (int64_t j = 0; j < count;) {
                int64_t g = (from + j) / width, end = (g + 1) * width - from, at = sample * kind + g;
                double m = mean_of[i][at], gm = a * mean_pull[i][at], v = b * var_pull[i][at];
                if (end > count) end = count;
                for (; j < end; j++) of_mean[j] += gm + 2 / unit * (own[j] - m) * v, of_var[j] += v;
            }
        }
    }

    // The gradients of scale, shift and importance, once all sums are taken.
    void finish() const {
        double sums[2][TILE];
        for (int64_t from = 0; from < c; from += TILE) {
            int64_t count = c - from < TILE ? c - from : TILE;
            for (int64_t j = 0; j < count; j++) sums[0][j] = sums[1][j] = 0;
            for (int64_t s = 0; s < n; s++) {
                const double *t = total + s * c + from, *p = product + s * c + from;
                for (int64_t j = 0; j < count; j++) sums[0][j] += t[j], sums[1][j] += p[j];
            }
            for (int which = 0; which < 2; which++) {
                void* out = which ? call.weight_grad : call.bias_grad;
                if (!out) continue;
                with_dtype(call.affine_dtype, [&](auto* type) { write_as((decltype(type))out + from, count, sums[which]); });
            }
        }
        if (!call.mean_grad && !call.var_grad) return;
        // The mean's importance sums to 1, so that a level which all means share is left out of their gradients.
        double shared = 0, level = 0;
        for (int64_t s = 0; s < n; s++) level += dots[s * (2 * k + 2) + 2 * k + 1] / (double)n;
        for (int64_t s = 0; s < n; s++) {
            const double* dot = dots + s * (2 * k + 2) + 2 * k;
            shared += dot[0] * (coupled ? level : dot[1]);
        }
        double* of_logits[2] = {grads, grads + call.logits};
        for (int which = 0; which < 2; which++) {
            double* grad = of_logits[which];
            for (int64_t i = 0; i < k; i++) {
                double sum = 0;
                for (int64_t s = 0; s < n; s++) sum += dots[s * (2 * k + 2) + 2 * i + which];
                for (int64_t t = 0; t < tiles(call) * call.parts; t++) sum += tile_dots[t * 2 * k + 2 * i + which];
                own[i] = which ? -sum / 2 : shared - sum;
            }
            if (call.projection == SOFTMAX) softmax_gradient(faces[which].point, k, own);
            else if (call.projection != GIVEN) sparsestmax_gradient(faces[which], k, own);
            for (int64_t j = 0; j < call.logits; j++) grad[j] = 0;
            for (int64_t i = 0; i < k; i++) grad[call.members[i]] = own[i];
        }
        for (int64_t j = 0; call.tied && j < call.logits; j++)
            of_logits[0][j] = of_logits[1][j] = (of_logits[0][j] + of_logits[1][j]) / 2;
        if (call.mean_grad) write_table(call.mean_grad, call.importance_dtype, call.logits, of_logits[0]);
        if (call.var_grad) write_table(call.var_grad, call.importance_dtype, call.logits, of_logits[1]);
    }
};
