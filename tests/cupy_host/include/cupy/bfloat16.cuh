#pragma once
class bfloat16;  // declared only: a kernel that computes with it cannot be built
