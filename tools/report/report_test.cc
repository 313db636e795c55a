#include "tools/report/report.h"
#include "gtest/gtest.h"
