#!/usr/bin/env python3
"""Plants includes that break the order of the folders, and some that do not, and reads what check_layers says."""

import contextlib
import io
import os
import sys
import tempfile
import unittest

sys.dont_write_bytecode = True
sys.path.insert(0, os.path.dirname(os.path.realpath(__file__)))
import check_layers  # noqa: E402  pylint: disable=wrong-import-position


def findings(path, *lines):
    return list(check_layers.check_text(path, "\n".join(lines)))


class CheckLayersTest(unittest.TestCase):
    def assert_forbidden(self, path, include, *words):
        found = findings(path, "", f"#include {include}")
        self.assertEqual([line for line, _ in found], [2], f"{path} includes {include}")
        for word in words:
            self.assertIn(word, found[0][1])

    def assert_allowed(self, path, include):
        self.assertEqual(findings(path, f"#include {include}"), [])

    def test_base_stands_on_abseil_alone(self):
        self.assert_allowed("graph/base/status.h", '"absl/status/status.h"')
        self.assert_allowed("graph/base/status.h", "<vector>")
        self.assert_allowed("graph/base/status.cc", '"graph/base/status.h"')
        self.assert_forbidden("graph/base/status.h", "<google/protobuf/message.h>", "protobuf")
        self.assert_forbidden("graph/base/status.h", '"graph/ir/graph.h"', "graph/ir/graph.h")

    def test_graphs_know_no_torch_device_communicator_or_thread_pool(self):
        self.assert_allowed("graph/plan/plan.cc", '"graph/ir/graph.pb.h"')
        self.assert_allowed("graph/sim/x.cc", "<google/protobuf/text_format.h>")
        for include, library in [("<ATen/ATen.h>", "torch"), ("<torch/torch.h>", "torch"), ("<c10/core/Device.h>", "torch"),
                                 ("<cuda_runtime.h>", "cuda"), ("<c10/cuda/CUDAStream.h>", "cuda"), ("<nccl.h>", "nccl"),
                                 ("<mpi.h>", "mpi"), ("<tbb/flow_graph.h>", "tbb"), ("<oneapi/tbb/flow_graph.h>", "tbb")]:
            self.assert_forbidden("graph/plan/plan.cc", include, library)
        self.assert_forbidden("graph/verify/v.cc", '"graph/runtime/executor.h"', "graph/runtime")
        self.assert_forbidden("graph/ir/a_test.cc", '"ops/copy.h"', "ops/copy.h")

    def test_runtime_adds_tbb_only(self):
        self.assert_allowed("graph/runtime/executor.cc", "<tbb/flow_graph.h>")
        self.assert_allowed("graph/runtime/executor.cc", '"graph/plan/plan.h"')
        self.assert_forbidden("graph/runtime/executor.cc", "<ATen/ATen.h>", "torch")
        self.assert_forbidden("graph/runtime/executor.cc", '"dist/communicator.h"', "dist/communicator.h")

    def test_dist_and_data_do_not_meet(self):
        self.assert_allowed("dist/nccl.cc", "<nccl.h>")
        self.assert_allowed("dist/a.cc", '"graph/base/status.h"')
        self.assert_allowed("data/jpeg.cc", "<jpeglib.h>")
        self.assert_forbidden("dist/a.cc", '"data/reader.h"', "data/reader.h")
        self.assert_forbidden("data/a.cc", '"dist/communicator.h"', "dist/communicator.h")
        self.assert_forbidden("data/a.cc", "<torch/torch.h>", "torch")
        self.assert_forbidden("dist/a.cc", "<ATen/ATen.h>", "torch")
        self.assert_forbidden("dist/a.cc", '"graph/ir/graph.h"', "graph/ir")

    def test_only_the_rendezvous_may_use_torchs_store(self):
        store = "<torch/csrc/distributed/c10d/TCPStore.hpp>"
        self.assert_allowed("dist/rendezvous.cc", store)
        self.assert_allowed("dist/tcp_rendezvous_test.cc", store)
        self.assert_forbidden("dist/nccl.cc", store, "torch")
        self.assert_forbidden("dist/rendezvous.cc", "<torch/torch.h>", "torch")

    def test_models_compute_only(self):
        self.assert_allowed("models/vit.cc", "<ATen/ATen.h>")
        self.assert_allowed("models/probe.h", '"graph/ir/model_spec.h"')
        self.assert_allowed("models/probe.h", '"graph/ir/model_spec.pb.h"')
        self.assert_forbidden("models/probe.h", '"graph/ir/graph.h"', "graph/ir/graph.h")
        for include in ['"dist/a.h"', '"data/a.h"', '"ops/a.h"', "<mpi.h>", "<tbb/task_arena.h>"]:
            self.assert_forbidden("models/vit.cc", include)

    def test_kernels_of_models_know_cuda_and_no_tensors(self):
        self.assert_allowed("models/cuda/sparse_attention.cu", "<cuda_runtime.h>")
        self.assert_allowed("models/cuda/sparse_attention.cu", '"ops/cuda/emulation/cuda_on_cpu.h"')
        self.assert_allowed("models/sparse_attention.cc", '"models/cuda/sparse_attention.h"')
        self.assert_forbidden("models/cuda/sparse_attention.cu", '"ops/cuda/device.h"', "ops/cuda/device.h")
        self.assert_forbidden("models/cuda/sparse_attention.cu", "<ATen/ATen.h>", "torch")
        self.assert_forbidden("models/sparse_attention.cc", "<cuda_runtime.h>", "cuda")

    def test_upper_rows_see_lower_rows_and_not_back(self):
        self.assert_allowed("ops/a.cc", '"data/reader.h"')
        self.assert_allowed("ops/a.cc", "<torch/torch.h>")
        self.assert_forbidden("ops/a.cc", '"pipelines/runner.h"', "pipelines/runner.h")
        self.assert_allowed("pipelines/runner.cc", '"ops/a.h"')
        self.assert_forbidden("pipelines/runner.cc", '"tools/millrace.h"', "tools/millrace.h")
        self.assert_allowed("tools/millrace.cc", '"pipelines/runner.h"')

    def test_nothing_includes_tests(self):
        self.assert_allowed("tests/golden.cc", '"tools/millrace.h"')
        for path in ["graph/base/a.cc", "ops/a.cc", "pipelines/a.cc", "tools/a.cc"]:
            self.assert_forbidden(path, '"tests/helper.h"', "tests/helper.h")

    def test_relative_paths_and_spacing_hide_nothing(self):
        self.assert_forbidden("graph/ir/a.h", '"../../dist/a.h"', "dist/a.h")
        self.assertEqual(len(findings("graph/ir/a.h", '  #  include  "dist/a.h"')), 1)
        self.assertEqual(findings("graph/ir/a.h", '// #include "dist/a.h"'), [])

    def test_proto_imports_count(self):
        self.assertEqual(len(findings("graph/ir/a.proto", 'import "ops/a.proto";')), 1)
        self.assertEqual(findings("graph/ir/a.proto", 'import "graph/base/a.proto";'), [])

    def test_an_unknown_folder_must_be_given_a_row(self):
        self.assertIn("no row", findings("graph/novel/a.cc", "")[0][1])
        self.assertIn("no row", findings("graph/a.cc", "")[0][1])

    def test_a_tree_with_a_planted_include_fails_with_file_and_line(self):
        with tempfile.TemporaryDirectory() as root:
            os.makedirs(os.path.join(root, "models"))
            with open(os.path.join(root, "models", "vit.cc"), "w", encoding="utf-8") as file:
                file.write("#include <vector>\n#include \"ops/a.h\"\n")
            out = io.StringIO()
            with contextlib.redirect_stdout(out), contextlib.redirect_stderr(io.StringIO()):
                self.assertEqual(check_layers.main([root]), 1)
            self.assertTrue(out.getvalue().startswith("models/vit.cc:2: models/ must not include ops/a.h"))

    def test_an_empty_tree_is_not_a_success(self):
        with tempfile.TemporaryDirectory() as root, contextlib.redirect_stderr(io.StringIO()):
            self.assertEqual(check_layers.main([root]), 2)


if __name__ == "__main__":
    unittest.main()
