// The CUDA C++ of CuPy's generated kernels, for g++. One thread of the machine runs the threads
// of a block: one after the other, or as fibers where they wait for each other.
#pragma once
#include <algorithm>
#include <cassert>
#include <cfloat>
#include <climits>
#include <cmath>
#include <complex>
#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <cstring>
#include <initializer_list>
#include <limits>
#include <type_traits>
#include <utility>

#define __global__
#define __device__
#define __host__
#define __constant__ static
#define __shared__ alignas(16) static
#define __forceinline__ inline
#define __noinline__
#define __restrict__
#define __launch_bounds__(...)
#define __align__(n) alignas(n)

struct Index3 { unsigned x, y, z; };
static Index3 threadIdx, blockIdx, blockDim, gridDim;
static const int warpSize = 32;

namespace xem_host {

enum Mode { ONCE, IN_TURN, TOGETHER };
enum State : char { READY, AT_WARP, AT_BLOCK, DONE };
constexpr unsigned MAX_THREADS = 1024, STACK = 1u << 15, WARP = 32;

struct Block {
  unsigned size, current;
  bool together;
  void *scheduler, *fiber[MAX_THREADS];
  State state[MAX_THREADS];
  alignas(16) char lane[MAX_THREADS][16];
  void (*run)(void *);
  void *argument;
};
static Block block;
alignas(16) static char shared[232448];  // that of its caller's size

#if defined(__x86_64__)
// Saves what a function must keep on the stack, and goes on where another stack stopped.
__attribute__((naked, noinline)) static void switch_stacks(void **, void *) {
  asm volatile(
      "push %rbp\n push %rbx\n push %r12\n push %r13\n push %r14\n push %r15\n"
      "mov %rsp, (%rdi)\n mov %rsi, %rsp\n"
      "pop %r15\n pop %r14\n pop %r13\n pop %r12\n pop %rbx\n pop %rbp\n ret\n");
}
static void *fresh_stack(char *top, void (*entry)()) {
  void **p = reinterpret_cast<void **>(top);
  *--p = nullptr;
  *--p = reinterpret_cast<void *>(entry);
  for (int i = 0; i < 6; i++) *--p = nullptr;
  return p;
}
#else
#error "fibers are written for x86-64 only"
#endif

static void stop(State state) {
  const unsigned me = block.current;
  block.state[me] = state;
  switch_stacks(&block.fiber[me], block.scheduler);
}
static void wait(State state) {
  if (block.together) stop(state);
}
static void fiber_entry() {
  block.run(block.argument);
  stop(DONE);
}
static void enter(unsigned t) {
  block.current = t;
  threadIdx = {t % blockDim.x, t / blockDim.x % blockDim.y, t / (blockDim.x * blockDim.y)};
}

// No thread can run: the barriers of warps open first, then that of the block.
static bool open_barriers() {
  for (State barrier : {AT_WARP, AT_BLOCK}) {
    bool opened = false;
    for (unsigned t = 0; t < block.size; t++)
      if (block.state[t] == barrier) block.state[t] = READY, opened = true;
    if (opened) return true;
  }
  return false;
}
static void run_together(char *stacks) {
  for (unsigned t = 0; t < block.size; t++) {
    block.state[t] = READY;
    block.fiber[t] = fresh_stack(stacks + (t + 1) * STACK, fiber_entry);
  }
  do {
    for (unsigned t = 0; t < block.size; t++) {
      if (block.state[t] != READY) continue;
      enter(t);
      switch_stacks(&block.scheduler, block.fiber[t]);
    }
  } while (open_barriers());
}
static void run_in_turn() {
  for (unsigned t = 0; t < block.size; t++) {
    enter(t);
    block.run(block.argument);
  }
}

template <class Call> static int run_grid(Call &call, Mode mode, const unsigned *g, char *stacks) {
  gridDim = {g[0], g[1], g[2]};
  blockDim = {g[3], g[4], g[5]};
  if (mode == ONCE) gridDim = blockDim = {1, 1, 1};
  block.size = blockDim.x * blockDim.y * blockDim.z;
  block.together = mode == TOGETHER;
  block.run = [](void *argument) { (*static_cast<Call *>(argument))(); };
  block.argument = &call;
  if (block.size > MAX_THREADS) return 1;
  for (unsigned z = 0; z < gridDim.z; z++)
    for (unsigned y = 0; y < gridDim.y; y++)
      for (unsigned x = 0; x < gridDim.x; x++) {
        blockIdx = {x, y, z};
        if (block.together) run_together(stacks); else run_in_turn();
      }
  return 0;
}
template <class... P, std::size_t... I>
static int launch(void (*kernel)(P...), int mode, void **a, const unsigned *g, char *s,
                  std::index_sequence<I...>) {
  auto call = [&] { kernel(*static_cast<std::remove_cv_t<std::remove_reference_t<P>> *>(a[I])...); };
  return run_grid(call, static_cast<Mode>(mode), g, s);
}
template <class... P>
static int launch(void (*kernel)(P...), int mode, void **a, const unsigned *g, char *s) {
  return launch(kernel, mode, a, g, s, std::index_sequence_for<P...>{});
}

// What every thread of a warp offers, and what one of them takes of another's.
template <class T> static T exchange(T value, int lane) {
  static_assert(sizeof(T) <= 16, "");
  const unsigned me = block.current, other = (me & ~(WARP - 1)) + lane;
  std::memcpy(block.lane[me], &value, sizeof(T));
  wait(AT_WARP);
  if (lane >= 0 && lane < (int)WARP && other < block.size)
    std::memcpy(&value, block.lane[other], sizeof(T));
  wait(AT_WARP);
  return value;
}
static inline int own_lane() { return block.current & (WARP - 1); }

template <class To, class From> static inline To bits(From from) {
  static_assert(sizeof(To) == sizeof(From), "");
  To to;
  std::memcpy(&to, &from, sizeof to);
  return to;
}

}  // namespace xem_host

static inline void __syncthreads() { xem_host::wait(xem_host::AT_BLOCK); }
static inline void __syncwarp(unsigned = ~0u) { xem_host::wait(xem_host::AT_WARP); }
static inline void __threadfence() {}
static inline void __threadfence_block() {}
template <class T> static T __shfl_sync(unsigned, T v, int lane, int = 32) {
  return xem_host::exchange(v, lane & 31);
}
template <class T> static T __shfl_xor_sync(unsigned, T v, int mask, int = 32) {
  return xem_host::exchange(v, xem_host::own_lane() ^ mask);
}
template <class T> static T __shfl_up_sync(unsigned, T v, unsigned by, int = 32) {
  return xem_host::exchange(v, xem_host::own_lane() - (int)by);
}
template <class T> static T __shfl_down_sync(unsigned, T v, unsigned by, int = 32) {
  return xem_host::exchange(v, xem_host::own_lane() + (int)by);
}

static inline int __popc(unsigned x) { return __builtin_popcount(x); }
static inline int __popcll(unsigned long long x) { return __builtin_popcountll(x); }
static inline int __clz(unsigned x) { return x ? __builtin_clz(x) : 32; }
static inline int __ffs(int x) { return __builtin_ffs(x); }
static inline float __int_as_float(int x) { return xem_host::bits<float>(x); }
static inline int __float_as_int(float x) { return xem_host::bits<int>(x); }
static inline double __longlong_as_double(long long x) { return xem_host::bits<double>(x); }
static inline long long __double_as_longlong(double x) { return xem_host::bits<long long>(x); }

template <class T> static T atomicAdd(T *p, T v) { T old = *p; *p = old + v; return old; }
template <class T> static T atomicExch(T *p, T v) { T old = *p; *p = v; return old; }
template <class T> static T atomicOr(T *p, T v) { T old = *p; *p = old | v; return old; }
template <class T> static T atomicAnd(T *p, T v) { T old = *p; *p = old & v; return old; }
template <class T> static T atomicMax(T *p, T v) { T old = *p; *p = std::max(old, v); return old; }
template <class T> static T atomicMin(T *p, T v) { T old = *p; *p = std::min(old, v); return old; }
template <class T> static T atomicCAS(T *p, T expected, T v) {
  T old = *p;
  if (old == expected) *p = v;
  return old;
}

using std::abs; using std::acos; using std::acosh; using std::asin; using std::asinh;
using std::atan; using std::atan2; using std::atanh; using std::cbrt; using std::ceil;
using std::copysign; using std::cos; using std::cosh; using std::erf; using std::erfc;
using std::exp; using std::exp2; using std::expm1; using std::fabs; using std::floor;
using std::fma; using std::fmax; using std::fmin; using std::fmod; using std::hypot;
using std::isfinite; using std::isinf; using std::isnan; using std::ldexp; using std::lgamma;
using std::log; using std::log10; using std::log1p; using std::log2; using std::nextafter;
using std::pow; using std::rint; using std::round; using std::signbit; using std::sin;
using std::sinh; using std::sqrt; using std::tan; using std::tanh; using std::tgamma;
using std::trunc;
static inline double rsqrt(double x) { return 1 / std::sqrt(x); }
static inline float rsqrt(float x) { return 1 / std::sqrt(x); }
template <class A, class B> static inline std::common_type_t<A, B> min(A a, B b) {
  using C = std::common_type_t<A, B>;
  return (C)b < (C)a ? (C)b : (C)a;
}
template <class A, class B> static inline std::common_type_t<A, B> max(A a, B b) {
  using C = std::common_type_t<A, B>;
  return (C)a < (C)b ? (C)b : (C)a;
}
