#pragma once
class float16 {
  _Float16 value;

 public:
  float16() {}
  template <class T> explicit float16(T x) : value(static_cast<_Float16>(static_cast<float>(x))) {}
  operator float() const { return static_cast<float>(value); }
};
