// A device guard that does nothing, for builds of PyTorch without CUDA: with it, tensors that
// hold no data can be said to be on "cuda". A real CUDA tensor remains impossible.
#include <c10/core/impl/DeviceGuardImplInterface.h>

namespace {
c10::impl::NoOpDeviceGuardImpl<c10::DeviceType::CUDA> guard;
c10::impl::DeviceGuardImplRegistrar registrar(c10::DeviceType::CUDA, &guard);
}  // namespace
