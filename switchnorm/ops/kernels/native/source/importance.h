// From logits to importance: softmax, and SparsestMax as switchnorm/ops/importance.py computes it on numbers.
#pragma once
#include <math.h>

#include "call.h"

enum Projection : int64_t { GIVEN = 0, SOFTMAX = 1, SPARSE_SIMPLEX = 2, SPARSE_SUPPORT = 3 };

// A projected point, and its Jacobian: slope * (I - 11'/s - dd') on the s members of a face. It lies in memory that the
// backward pass finds again.
struct Face {
    double *point, *direction, *slope;
    int64_t *order, *members, *final;  // the choice is final: no logit has a gradient
    static int64_t numbers(int64_t k) { return 3 * k + 3; }
    void lie_in(double* memory, int64_t k) {
        point = memory, direction = memory + k, order = (int64_t*)(memory + 2 * k);
        slope = memory + 3 * k, members = order + k + 1, final = order + k + 2;
    }
};

inline void softmax(const double* logits, int64_t k, double* out) {
    double largest = logits[0], total = 0;
    for (int64_t i = 1; i < k; i++) largest = logits[i] > largest ? logits[i] : largest;
    for (int64_t i = 0; i < k; i++) total += out[i] = exp(logits[i] - largest);
    for (int64_t i = 0; i < k; i++) out[i] /= total;
}

inline void softmax_gradient(const double* point, int64_t k, double* grad) {
    double along = 0;
    for (int64_t i = 0; i < k; i++) along += point[i] * grad[i];
    for (int64_t i = 0; i < k; i++) grad[i] = point[i] * (grad[i] - along);
}

// The projection of k logits; `work` holds 3 * k numbers.
inline void sparsestmax(const double* logits, int64_t k, double squared_radius, bool support_centre, const Face* face,
                        double* work) {
    bool finite = true;
    for (int64_t i = 0; i < k; i++) finite = finite && logits[i] - logits[i] == 0;
    for (int64_t i = 0; i < k; i++) face->order[i] = i;
    if (!(finite && squared_radius - squared_radius == 0)) {
        for (int64_t i = 0; i < k; i++) face->point[i] = NAN, face->direction[i] = 0;
        *face->members = k;
        *face->slope = NAN;
        return;
    }
    for (int64_t i = 1; i < k; i++)  // stable, the largest first
        for (int64_t j = i; j > 0 && logits[face->order[j]] > logits[face->order[j - 1]]; j--) {
            int64_t held = face->order[j];
            face->order[j] = face->order[j - 1];
            face->order[j - 1] = held;
        }
    double *ranked = work, *found = work + k, *direction = work + 2 * k;
    for (int64_t i = 0; i < k; i++) ranked[i] = 0.5 * logits[face->order[i]] - 0.5 * logits[face->order[0]];
    double total = 0;
    int64_t support = 0;
    for (; support < k; support++) {
        double z = 2 * (ranked[support] > -1 ? ranked[support] : -1);
        if (!(1 + (double)(support + 1) * z > total + z)) break;
        total += z;
    }
    double cut = (total - 1) / (double)support, off = 0;
    int64_t dimension = support_centre ? support : k;
    for (int64_t i = 0; i < dimension; i++) {
        double z = 2 * (ranked[i] > -1 ? ranked[i] : -1);
        double distance = (i < support ? z - cut : 0) - 1 / (double)dimension;
        off += distance * distance;
    }
    *face->slope = 1;
    int64_t size = support;
    if (off >= squared_radius) {
        for (int64_t i = 0; i < support; i++) {
            found[i] = 2 * (ranked[i] > -1 ? ranked[i] : -1) - cut;
            direction[i] = 0;
        }
    } else {
        for (size = dimension; size > 1; size--) {
            double spread = -ranked[size - 1], mean = 0, norm = 0, least = 0;
            if (spread == 0) {
                for (int64_t i = 0; i < size; i++) found[i] = 1 / (double)size, direction[i] = 0;
                break;
            }
            for (int64_t i = 0; i < size; i++) mean += ranked[i] / spread;
            mean /= (double)size;
            for (int64_t i = 0; i < size; i++) {
                direction[i] = ranked[i] / spread - mean;
                norm += direction[i] * direction[i];
            }
            norm = sqrt(norm);
            double squared = squared_radius + (1 / (double)dimension - 1 / (double)size);
            double step = squared > 0 ? sqrt(squared) / norm : 0;
            for (int64_t i = 0; i < size; i++) {
                found[i] = 1 / (double)size + direction[i] * step;
                direction[i] /= norm;
                if (i == 0 || found[i] < least) least = found[i];
            }
            if (least >= 0) {
                // Two members on the sphere are where they are; roundings would be all of their gradient.
                *face->slope = size == 2 ? 0 : step / (2 * spread);
                break;
            }
        }
        if (size <= 1) size = 1, found[0] = 1, direction[0] = 0, *face->slope = 1;
    }
    for (int64_t i = 0; i < k; i++) face->point[i] = face->direction[i] = 0;
    for (int64_t i = 0; i < size; i++) {
        face->point[face->order[i]] = found[i];
        face->direction[face->order[i]] = direction[i];
    }
    *face->members = size;
}

inline void sparsestmax_gradient(const Face& face, int64_t k, double* grad) {
    if (*face.final) {
        for (int64_t i = 0; i < k; i++) grad[i] = 0;
        return;
    }
    double mean = 0, along = 0;
    for (int64_t i = 0; i < *face.members; i++) mean += grad[face.order[i]];
    mean /= (double)*face.members;
    for (int64_t i = 0; i < *face.members; i++) along += face.direction[face.order[i]] * (grad[face.order[i]] - mean);
    for (int64_t i = *face.members; i < k; i++) grad[face.order[i]] = 0;
    for (int64_t i = 0; i < *face.members; i++) {
        int64_t at = face.order[i];
        grad[at] = *face.slope * (grad[at] - mean - face.direction[at] * along);
    }
}
