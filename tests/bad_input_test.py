#!/usr/bin/env python3
"""Bad input is refused before anything runs: exit 2, and for every mistake at once where it stands (file, line,
column), what was expected and what would mend it; the same as JSON.

A mistake is made by editing a good pipeline: self.broken("vit", ("old text", "new text")). Where it stands is where
the marker << in the new text was, so the tests name no line numbers.
"""

import os
import re
import sys

sys.dont_write_bytecode = True
sys.path.insert(0, os.path.dirname(os.path.realpath(__file__)))
import unittest  # noqa: E402

from millrace_cli import MillraceTest, call, sets  # noqa: E402


VIT = """name: "vit"
model { name: "digits_vit" }
data {
  format: IDX
  images: "data/digits/images.idx3-ubyte"
  labels: "data/digits/labels.idx1-ubyte"
  count: 1500
  eval_first: 1500
  max_value: 16
}
machine: "cpu_2_cores"
parallel {
  data: 2
  zero {
    stage: 2
    reduce_bucket_bytes: 262144
  }
}
optimizer { lr: 0.002 }
lr_schedule {
  kind: WARMUP_COSINE
  warmup_steps: 100
}
train {
  steps: 3600
  micro_batch: 25
}
"""


def good_text(name):
    if name == "vit":
        return VIT
    with open(f"pipelines/{name}.textproto", encoding="utf-8") as file:
        return file.read()


def place_of(text, position):
    """(line, column) of a position, both from 1."""
    return text.count("\n", 0, position) + 1, position - text.rfind("\n", 0, position)


class BadInputTest(MillraceTest):
    def broken(self, name, *edits):
        """Writes pipeline `name` with the edits; returns its path and the places marked in their new texts."""
        text = good_text(name)
        for old, new in edits:
            self.assertEqual(text.count(old), 1, f"'{old}' is to be in {name} once")
            text = text.replace(old, new)
        marks = []
        while "<<" in text:
            marks.append(place_of(text, text.index("<<")))
            text = text.replace("<<", "", 1)
        return self.write(f"broken_{name}.textproto", text), marks

    def check(self, finding, path, place, *words):
        """A finding stands at the place, says the words in its message or suggestion, and has a suggestion."""
        self.assertEqual((finding["file"], (finding["line"], finding["column"])), (path, place), finding)
        said = f"{finding['message']}\n{finding['suggestion']}"
        for word in words:
            self.assertIn(word, said)
        self.assertTrue(finding["suggestion"], finding)

    def refused(self, name, edits, *expected, verb="plan"):
        """Each of `expected` is the words of one finding, at the mark of the same index, in any order of findings."""
        path, marks = self.broken(name, *edits)
        self.assertEqual(len(marks), len(expected))
        words = [verb, path] + (["--folder", self.path("run"), "--quiet"] if verb == "run" else [])
        result = self.call(*words, code=2)
        error = result.json["error"]
        findings = {(f["line"], f["column"]): f for f in error["findings"]}
        for place, said in zip(marks, expected):
            self.assertIn(place, findings, str(result))
            self.check(findings[place], path, place, *said)
            # The same for people, in the form that editors jump to.
            self.assertRegex(result.err, f"(?m)^{re.escape(path)}:{place[0]}:{place[1]}: error: ")
        self.assertEqual(error["code"], "INVALID_ARGUMENT")
        self.assertEqual([error[k] for k in ("file", "line", "column")],
                         [error["findings"][0][k] for k in ("file", "line", "column")])
        self.assertFalse(os.path.exists(self.path("run")), "a refused run leaves nothing behind")
        return error["findings"]

    # Words and values

    def test_unknown_field(self):
        found = self.refused("vit", [("stage: 2", "<<stgae: 2")], ["'stgae'", "expected one of stage", "'stage'?"])
        self.assertEqual(len(found), 1)

    def test_misspelt_enum_value(self):
        self.refused("vit", [("WARMUP_COSINE", "<<WARMUP_COSIN")], ["expected one of CONSTANT", "'WARMUP_COSINE'?"])

    def test_zero_size_bucket(self):
        self.refused("vit", [("reduce_bucket_bytes: 262144", "<<reduce_bucket_bytes: 0")], ["expected more than 0 bytes"])

    def test_batch_that_contradicts_itself(self):
        self.refused("vit", [("micro_batch: 25", "micro_batch: 25 <<global_batch: 51")], ["51", "= 50", "global_batch to 50"])

    def test_batch_that_does_not_divide_by_the_ranks(self):
        self.refused("vit", [("micro_batch: 25", "<<global_batch: 51")],
                     ["expected a multiple of 2", "global_batch to 50 or 52"])

    # Things looked up by name

    def test_unknown_model(self):
        self.refused("vit", [('model { name: "digits_vit" }', 'model { <<name: "digits_vti" }')], ["'digits_vit'?"])

    def test_unknown_model_argument_and_one_of_another_type(self):
        self.refused("vit", [('model { name: "digits_vit" }',
                                     'model { name: "digits_vit" <<arg { name: "hiden_size" i: 64 } <<arg { name: "heads" s: "2" } }')],
                     ["hiden_size", "'hidden_size'?"], ["heads", "expected"])

    def test_recomputed_stages_that_the_model_does_not_have(self):
        recompute = 'memory { recompute { stage: "layers.1" <<stage: "layer.2" <<stage: "head" } }'
        self.refused("vit", [('machine: "cpu_2_cores"', f'machine: "cpu_2_cores"\n{recompute}')],
                     ["no stage 'layer.2'", "'layers.2'?"], ["'head' changes nothing", "the last one"])

    def test_recompute_that_matches_no_stage_or_has_no_budget(self):
        for text, words in (("<<every: 9", ["every 9 matches no stage", "at most 5"]),
                            ("<<auto: true", ["no budget", "memory.device_budget_bytes"])):
            self.refused("vit", [('machine: "cpu_2_cores"', f'machine: "cpu_2_cores"\nmemory {{ recompute {{ {text} }} }}')], words)

    def test_unknown_machine(self):
        self.refused("vit", [('machine: "cpu_2_cores"', '<<machine: "cpu_2_core"')], ["'cpu_2_cores'?"])

    def test_a_machine_whose_devices_the_binary_cannot_run(self):
        self.refused("vit", [('machine: "cpu_2_cores"', '<<machine: "one_gpu"')],
                     ["'one_gpu' has CUDA devices", "built without them", "--config=cuda", "--set machine=cpu_2_cores"], verb="run")
        self.call("verify", "digits_vit", *sets(machine="one_gpu"))  # what runs nothing needs no device
        self.train("digits_vit", train__steps=1, train__eval_every=0)
        finding = self.call("evaluate", "digits_vit", "--checkpoint", self.path("run"), *sets(machine="one_gpu"),
                            code=2).json["error"]["findings"][0]
        self.assertIn("'one_gpu' has CUDA devices", finding["message"])
        self.assertEqual(finding["file"], "--set machine=one_gpu")

    def test_settings_of_devices_on_a_machine_that_has_none(self):
        runtime = "runtime { <<cuda_graphs: true <<nvtx: true }"
        self.refused("vit", [('machine: "cpu_2_cores"', f'machine: "cpu_2_cores"\n{runtime}')],
                     ["runtime.cuda_graphs changes nothing", "'cpu_2_cores'", '"one_gpu"'],
                     ["runtime.nvtx changes nothing", "'cpu_2_cores'"])
        self.call("plan", "digits_vit", *sets(machine="one_gpu", runtime__cuda_graphs="true", runtime__nvtx="true"))
        self.refused("vit", [('machine: "cpu_2_cores"', 'machine: "one_gpu"\nruntime { executor: REFERENCE <<cuda_graphs: true }')],
                     ["runtime.cuda_graphs changes nothing", "REFERENCE", "FLOW_GRAPH"])

    def test_unknown_pipeline(self):
        finding = self.call("plan", "digits_vti", code=2).json["error"]["findings"][0]
        self.assertIn("digits_vti", finding["message"])
        self.assertEqual(finding["suggestion"], "did you mean 'digits_vit'?")

    # Data

    def test_missing_data_files_are_named_all_with_near_names(self):
        found = self.refused("vit", [('images: "data/digits/images', '<<images: "data/digits/imags'),
                                            ('labels: "data/digits/labels', '<<labels: "data/digits/lables')],
                             ["no such file", "'data/digits/images.idx3-ubyte'?"], ["no such file", "'data/digits/labels.idx1-ubyte'?"],
                             verb="run")
        self.assertEqual(len(found), 2)  # and not again for the evaluation

    def test_truncated_data_file(self):
        with open("data/digits/images.idx3-ubyte", "rb") as file:
            self.write("cut.idx", file.read(3000))
        self.refused("vit", [('images: "data/digits/images.idx3-ubyte"', '<<images: "cut.idx"')],
                     ["truncated", "115024 bytes", "3000 bytes"], verb="run")

    def test_images_of_another_size_than_the_models(self):
        self.refused("vit", [('model { name: "digits_vit" }',
                                     'model { name: "digits_vit" arg { name: "image_size" i: 16 } }'),
                                    ("images: ", "<<images: ")], ["8 x 8", "1 x 16 x 16", "data.augment.resize: 16"], verb="run")

    # A step written by hand

    def test_unknown_operation(self):
        self.refused("two_layer", [('node { name: "relu" op: "relu"', '<<node { name: "relu" op: "rleu"')], ["'rleu'", "'relu'?"])

    def test_two_nodes_that_write_one_value(self):
        self.refused("two_layer", [('node { name: "fc1_grad"', '<<node { name: "fc1_grad"'), ('output: "dw1" ', 'output: "dw2" ')],
                     ["writes value 'dw2'", "'fc2_grad'", "one writer"])

    def test_cycle(self):
        self.refused("two_layer", [('node { name: "relu" op: "relu" input: "h"', '<<node { name: "relu" op: "relu" input: "da"')],
                     ["waits for itself", "'fc2_grad'", "take out one"])

    def test_sharded_parameter_that_is_read_without_a_gather(self):
        found = self.refused("two_layer", [("parallel { data: 2 }", "parallel { data: 2 zero { stage: 3 } }"),
                                           ('node { name: "fc1"', '<<node { name: "fc1"')], ["all_gather", "sharded"])
        self.assertEqual({f["node"] for f in found}, {"fc1", "fc2", "fc1_grad", "fc2_grad"})

    def test_batch_of_another_size_than_the_nodes_deliver(self):
        self.refused("two_layer", [("micro_batch: 25", "<<micro_batch: 24")], ["[25, 1, 8, 8]", "= 24", "micro_batch to 25"])

    # All together, and from the command line

    def test_several_mistakes_are_reported_at_once(self):
        found = self.refused(
            "vit",
            [("format: IDX", "format: <<IDXX"), ("stage: 2", "<<stgae: 2"), ("reduce_bucket_bytes: 262144", "<<reduce_bucket_bytes: 0"),
             ("lr: 0.002", "lr: 0.002 <<momentum: 0.5"), ("steps: 3600", "steps: 3600 <<epochs: 2"),
             ("micro_batch: 25", "micro_batch: 25 <<global_batch: 51 ")],
            ["'IDX'?"], ["'stage'?"], ["more than 0"], ["SGD"], ["expected one of them"], ["= 50"])
        self.assertEqual(len(found), 6)

    def test_set_of_an_unknown_path_and_of_a_wrong_value(self):
        wrong = ["train.stpes=20", "parallel.zero.stage=7", "lr_schedule.kind=WARMUP_COSIN"]
        error = self.call("plan", "digits_vit", *[w for v in wrong for w in ("--set", v)], code=2).json["error"]
        self.assertEqual({f["file"] for f in error["findings"]}, {f"--set {v}" for v in wrong})
        said = str(error["findings"])
        for words in ("'steps'?", "0 (replicate)", "'WARMUP_COSINE'?"):
            self.assertIn(words, said)

    def test_unknown_flag_verb_and_value(self):
        for words, help_ in [(["plan", "digits_vit", "--summry"], "--summary"), (["paln", "digits_vit"], "plan"),
                             (["export", "digits_vit", "--format", "dott"], "dot")]:
            finding = self.call(*words, code=2).json["error"]["findings"][0]
            self.assertEqual(finding["suggestion"], f"did you mean {help_}")

    def test_every_verb_refuses_and_prints_one_object(self):
        path, _ = self.broken("vit", ("stage: 2", "stgae: 2"))
        for words in (["run"], ["run", "--dry_run"], ["plan"], ["verify"], ["simulate"], ["export"], ["describe", "pipeline"]):
            result = self.call(*words, path, code=2)
            self.assertEqual(len(result.out.splitlines()), 1, str(result))
            self.assertEqual(len(result.json["error"]["findings"]), 1)

    def test_without_json_nothing_goes_to_stdout(self):
        result = call("plan", "digits_vit", *sets(train__steps=-1))
        self.assertEqual((result.code, result.out), (2, ""))
        self.assertIn("expected more than 0 steps", result.err)


if __name__ == "__main__":
    unittest.main()
