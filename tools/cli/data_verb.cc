// `millrace data make`: small data sets in the layouts that the readers read.
#include <functional>
#include <iostream>
#include <map>
#include <utility>
#include <vector>

#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "data/make_cifar.h"
#include "data/make_coco.h"
#include "data/make_isic.h"
#include "tools/cli/report.h"
#include "tools/cli/verbs.h"

namespace millrace {
namespace {

using Numbers = std::vector<std::pair<const char*, int64_t*>>;

// One generator: its flags, and what writes the files.
struct Generator {
  std::string* directory;
  uint64_t* seed;
  Numbers numbers;
  std::function<absl::Status()> make;
};

}  // namespace

int DataVerb(const CommandLine& line, const Folders& folders) {
  MakeCifarOptions cifar;
  int64_t cifar_classes = cifar.classes;
  MakeIsicOptions isic;
  MakeCocoOptions coco;
  const std::map<std::string, Generator> generators = {
      {"cifar100",
       {&cifar.directory,
        &cifar.seed,
        {{"train", &cifar.train_images}, {"test", &cifar.test_images}, {"classes", &cifar_classes}},
        [&] {
          cifar.classes = static_cast<int>(cifar_classes);
          return MakeCifar(cifar);
        }}},
      {"isic",
       {&isic.directory,
        &isic.seed,
        {{"train", &isic.train_images},
         {"val", &isic.val_images},
         {"test", &isic.test_images},
         {"min_side", &isic.min_side},
         {"max_side", &isic.max_side}},
        [&] { return MakeIsic(isic); }}},
      {"coco",
       {&coco.directory,
        &coco.seed,
        {{"train", &coco.train_images},
         {"val", &coco.val_images},
         {"classes", &coco.classes},
         {"min_side", &coco.min_side},
         {"max_side", &coco.max_side}},
        [&] { return MakeCoco(coco); }}},
  };
  Findings findings;
  const auto complain = [&](std::string message, std::string help) {
    findings.Add(
        {.check = "command_line", .message = std::move(message), .suggestion = std::move(help)});
  };
  if (line.arguments != std::vector<std::string>{"make"})
    complain("expected `data make`", "millrace help");
  const std::string format = line.Get("format", "cifar100");
  const auto found = generators.find(format);
  if (found == generators.end()) {
    complain(absl::StrCat("data make writes no --format ", format),
             "--format cifar100, isic or coco");
    return Fail(line, findings.ToStatus(), findings, 2);
  }
  const Generator& generator = found->second;
  if (!line.Has("out")) complain("data make needs --out DIR", "");
  int64_t seed = 0;
  Numbers numbers = generator.numbers;
  numbers.push_back({"seed", &seed});
  std::vector<std::string> flags;
  for (const auto& [flag, value] : numbers) {
    flags.push_back(absl::StrCat("--", flag));
    if (line.Has(flag) && (!absl::SimpleAtoi(line.Get(flag, ""), value) || *value < 0)) {
      complain(absl::StrCat("--", flag, "=", line.Get(flag, ""), " is not a number >= 0"), "");
    }
  }
  for (const auto& [name, other] : generators) {
    for (const auto& [flag, value] : other.numbers) {
      bool known = false;
      for (const auto& [mine, ignored] : numbers) known |= absl::string_view(mine) == flag;
      if (known || !line.Has(flag)) continue;
      const std::string message =
          absl::StrCat("--", flag, " changes nothing with --format ", format);
      bool said = false;
      for (const Finding& f : findings.list()) said |= f.message == message;
      if (!said) complain(message, absl::StrCat("its flags are ", absl::StrJoin(flags, ", ")));
    }
  }
  if (!findings.ok()) return Fail(line, findings.ToStatus(), findings, 2);
  *generator.seed = static_cast<uint64_t>(seed);
  *generator.directory = UserPath(folders, line.Get("out", ""));
  const absl::Status status = generator.make();
  if (!status.ok()) return Fail(line, status, Findings(), 2);

  Json json{{"folder", *generator.directory}, {"format", format}};
  std::vector<std::string> counts;
  for (const auto& [flag, value] : generator.numbers) {
    json[flag] = *value;
    if (absl::string_view(flag) == "train" || absl::string_view(flag) == "val" ||
        absl::string_view(flag) == "test") {
      counts.push_back(absl::StrCat(*value, " ", flag));
    }
  }
  std::cerr << "wrote " << absl::StrJoin(counts, ", ") << " images to " << *generator.directory
            << "\n";
  PrintJson(line, json.dump());
  return 0;
}

}  // namespace millrace
