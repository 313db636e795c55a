// The verbs of the command line. Each returns the process' exit code: 0, 2 (bad input), 3 (failed), 4 (stuck) or
// 130 (interrupted after a clean stop).
#ifndef MILLRACE_TOOLS_CLI_VERBS_H_
#define MILLRACE_TOOLS_CLI_VERBS_H_

#include <optional>
#include <string>
#include <vector>

#include "graph/base/findings.h"
#include "graph/verify/certificate.h"
#include "pipelines/runner/compiled.h"
#include "tools/cli/command_line.h"

namespace millrace {

// `program` is argv[0]: the repository's own files are looked for beside it.
int RunVerb(const CommandLine& line, const std::string& program);

// Where files named by the user, and files of the repository, are looked for.
struct Folders {
  std::string user;        // where the user typed the command (bazel run changes the directory)
  std::string repository;  // holds pipelines/ and data/; "" when not found
};
Folders FindFolders(const std::string& program);
// A path as the user typed it, seen from where he typed it. "" stays "".
std::string UserPath(const Folders& folders, const std::string& path);

// The pipeline called `named`: a file as the user typed it, or one of the repository's.
absl::StatusOr<LoadedPipeline> FindPipeline(const std::string& named,
                                            const std::vector<std::string>& sets,
                                            const Folders& folders, Findings& findings);

// Loads (and compiles) the pipeline that the line names; on error has printed it and set `exit_code`.
std::optional<LoadedPipeline> LoadNamed(const CommandLine& line, const Folders& folders,
                                        int* exit_code);
std::optional<CompiledPipeline> LoadAndCompile(const CommandLine& line, const Folders& folders,
                                               int* exit_code, const CompileOptions& options = {});
// Where machines are looked for.
std::vector<std::string> MachineFolders(const Folders& folders);

// Compiles what LoadNamed gave, for verbs that change settings in between.
std::optional<CompiledPipeline> CompileLoaded(const CommandLine& line, const Folders& folders,
                                              LoadedPipeline loaded, int* exit_code,
                                              const CompileOptions& options = {});

// Prints the error as people and scripts want it; returns `code`.
int Fail(const CommandLine& line, const absl::Status& status, const Findings& findings, int code);
// Prints `json` as the last line of stdout when the line asks for it.
void PrintJson(const CommandLine& line, const std::string& json);

// What proves the pipeline's plans: the file of --certificate, which must cover them, else the verifier's own word. On
// error has printed it and set `exit_code`.
std::optional<Certificate> Certify(const CommandLine& line, const Folders& folders,
                                   const CompiledPipeline& compiled, int* exit_code);

int AdviseVerb(const CommandLine& line, const Folders& folders);
int AnalyzeVerb(const CommandLine& line, const Folders& folders);
int CalibrateVerb(const CommandLine& line, const Folders& folders);
int DataVerb(const CommandLine& line, const Folders& folders);
int DiffVerb(const CommandLine& line, const Folders& folders);
int DescribeVerb(const CommandLine& line, const Folders& folders);
int EvaluateVerb(const CommandLine& line, const Folders& folders);
int ExportVerb(const CommandLine& line, const Folders& folders);
int ExplainVerb(const CommandLine& line, const Folders& folders);
int RunPipelineVerb(const CommandLine& line, const Folders& folders);
int SimulateVerb(const CommandLine& line, const Folders& folders);
int VerifyVerb(const CommandLine& line, const Folders& folders);

}  // namespace millrace

#endif  // MILLRACE_TOOLS_CLI_VERBS_H_
