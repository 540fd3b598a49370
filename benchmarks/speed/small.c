// The reference system for many pairs (alpha, beta), and the gradient of (x0^2 + x1^2) / 2, as written by hand.
// Arrays hold one number for each system; without `da` there is no gradient.
#include <math.h>

typedef struct { double F0, F1, j00, j01, j10, j11; } Point;

static inline __attribute__((always_inline)) Point evaluate(double x0, double x1, double alpha, double beta) {
    double F0 = sqrt(alpha - x0 * x1), half = 0.5 / F0, F1 = sqrt((57 - x1) / (beta * F0));
    double a = -x1 * half, b = -x0 * half;
    return (Point){F0, F1, a, b, -F1 * half * a, -F1 * (0.5 / (57 - x1) + half * b)};
}

static inline __attribute__((always_inline)) void newton(Point p, double *x0, double *x1) {
    double r0 = p.F0 - *x0, r1 = p.F1 - *x1, det = (1 - p.j00) * (1 - p.j11) - p.j01 * p.j10;
    *x0 += ((1 - p.j11) * r0 + p.j01 * r1) / det;
    *x1 += (p.j10 * r0 + (1 - p.j00) * r1) / det;
}

static inline __attribute__((always_inline)) void adjoint(double x0, double x1, double alpha, double beta, double *da,
                                                          double *db) {
    Point p = evaluate(x0, x1, alpha, beta);
    double det = (1 - p.j00) * (1 - p.j11) - p.j01 * p.j10;
    double l0 = ((1 - p.j11) * x0 + p.j10 * x1) / det, l1 = (p.j01 * x0 + (1 - p.j00) * x1) / det;
    *da = (l0 - l1 * p.F1 / (2 * p.F0)) / (2 * p.F0);
    *db = -l1 * p.F1 / (2 * beta);
}

// Each system until it meets the tolerance: plain iteration.
void picard(long n, double tolerance, const double *alpha, const double *beta, double *x, double *da, double *db) {
#pragma omp parallel for schedule(dynamic, 8192) if (n > 8192)
    for (long i = 0; i < n; i++) {
        double x0 = 1.5, x1 = 3.5, r0, r1;
        for (int k = 0; k < 1000; k++) {
            double F0 = sqrt(alpha[i] - x0 * x1), F1 = sqrt((57 - x1) / (beta[i] * F0));
            r0 = F0 - x0, r1 = F1 - x1;
            if (fabs(r0) <= tolerance * (1 + fabs(x0)) && fabs(r1) <= tolerance * (1 + fabs(x1))) break;
            x0 = F0, x1 = F1;
        }
        x[i] = x0, x[n + i] = x1;
        if (da) adjoint(x0, x1, alpha[i], beta[i], da + i, db + i);
    }
}

// The same by Newton's method.
void adaptive(long n, double tolerance, const double *alpha, const double *beta, double *x, double *da, double *db) {
#pragma omp parallel for schedule(dynamic, 8192) if (n > 8192)
    for (long i = 0; i < n; i++) {
        double x0 = 1.5, x1 = 3.5;
        for (int k = 0; k < 100; k++) {
            Point p = evaluate(x0, x1, alpha[i], beta[i]);
            if (fabs(p.F0 - x0) <= tolerance * (1 + fabs(x0)) && fabs(p.F1 - x1) <= tolerance * (1 + fabs(x1))) break;
            newton(p, &x0, &x1);
        }
        x[i] = x0, x[n + i] = x1;
        if (da) adjoint(x0, x1, alpha[i], beta[i], da + i, db + i);
    }
}

// A fixed number of Newton steps, known to be enough for these systems: the loop is over vectors of them.
void vectorised(long n, double tolerance, const double *alpha, const double *beta, double *x, double *da, double *db) {
#pragma omp parallel for simd schedule(simd : dynamic, 8192) if (parallel : n > 8192)
    for (long i = 0; i < n; i++) {
        double x0 = 1.5, x1 = 3.5;
        for (int k = 0; k < 6; k++) newton(evaluate(x0, x1, alpha[i], beta[i]), &x0, &x1);
        x[i] = x0, x[n + i] = x1;
        if (da) adjoint(x0, x1, alpha[i], beta[i], da + i, db + i);
    }
}
