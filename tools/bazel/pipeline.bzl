"""One textproto = one program and its tests. Nothing else is needed for a new pipeline.

  millrace_pipelines(glob(["*.textproto"]))

makes of digits_vit.textproto
  :digits_vit        `bazel run //pipelines:digits_vit -- --set train.steps=20`: plan, verify, train
  :digits_vit_test   it parses, lowers, plans, verifies and simulates, and its plan is that of golden/digits_vit.txt
"""

def millrace_pipelines(files):
    for file in files:
        _pipeline(file[:-len(".textproto")], file)

def _pipeline(name, file):
    native.sh_binary(
        name = name,
        srcs = ["//tools:run_pipeline.sh"],
        args = ["run", "$(rootpath " + file + ")"],
        data = [
            file,
            ":machines",
            "//data/digits",
            "//tools:millrace",
        ],
    )
    native.sh_test(
        name = name + "_test",
        size = "small",
        srcs = ["//tools:pipeline_test.sh"],
        args = ["$(rootpath " + file + ")"],
        data = [
            file,
            ":golden",
            ":machines",
            "//tools:millrace",
        ],
    )
