// Machine files: read, then every number held against what it can mean, each mistake at its line.
#include <algorithm>
#include <filesystem>
#include <string>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "graph/ir/field_path.h"
#include "graph/ir/pipeline_text.h"
#include "graph/ir/text_reader.h"

namespace millrace {

absl::StatusOr<Machine> LoadMachine(const std::string& path, Findings& findings) {
  std::string text;
  if (!ReadTextFile(path, "machine", &text, findings)) {
    return absl::NotFoundError(absl::StrCat("the machine file ", path, " cannot be read"));
  }
  return ParseMachine(text, path, findings);
}

absl::StatusOr<Machine> ParseMachine(absl::string_view text, const std::string& file,
                                     Findings& findings) {
  Machine m;
  TextLocations where;
  Findings own;
  ReadText(text, file, &m, &where, own);
  auto require = [&](bool ok, const std::string& path, const std::string& is, const char* expected,
                     std::string help = "") {
    if (ok || where.IsSuspect(path)) return;
    const SourceLocation at = where.Find(path);
    Finding f;
    f.check = "range";
    f.message = absl::StrCat(path, " is ", is, ", expected ", expected);
    f.suggestion = std::move(help);
    f.file = at.file;
    f.line = at.line;
    f.column = at.column;
    own.Add(std::move(f));
  };
  auto field = [&](bool ok, const std::string& path, const char* expected) {
    require(ok, path, FieldText(m, path), expected);
  };
  const DeviceSpec& d = m.device();
  field(d.memory_bytes() >= 0, "device.memory_bytes", "0 (no budget) or more bytes");
  field(d.flops_per_second() > 0, "device.flops_per_second", "more than 0");
  field(d.flops_efficiency() > 0 && d.flops_efficiency() <= 1, "device.flops_efficiency",
        "more than 0, at most 1");
  field(d.memory_bytes_per_second() > 0, "device.memory_bytes_per_second", "more than 0");
  field(d.seconds_per_node() >= 0, "device.seconds_per_node", "0 or more");
  field(d.seconds_per_operator() >= 0, "device.seconds_per_operator", "0 or more");
  field(d.seconds_per_step() >= 0, "device.seconds_per_step", "0 or more");
  field(m.ranks_per_node() >= 0, "ranks_per_node", "0 (all) or more");
  field(m.host_memory_bytes() >= 0, "host_memory_bytes", "0 (no budget) or more bytes");
  field(m.pinned_memory_bytes() >= 0, "pinned_memory_bytes", "0 (no budget) or more bytes");
  field(m.storage_bytes() >= 0, "storage_bytes", "0 (no budget) or more bytes");
  for (int i = 0; i < m.link_size(); ++i) {
    const std::string path = absl::StrCat("link[", i, "]");
    const Link& link = m.link(i);
    const bool known = link.name() == "intra_node" || link.name() == "inter_node";
    require(known, path + ".name", absl::StrCat("'", link.name(), "'"), "intra_node or inter_node",
            DidYouMean(link.name(), {"intra_node", "inter_node"}));
    for (int k = 0; k < i && known; ++k) {
      require(m.link(k).name() != link.name(), path + ".name",
              absl::StrCat("'", link.name(), "' a second time"), "one link of each name");
    }
    require(link.latency_seconds() >= 0, path + ".latency_seconds",
            absl::StrCat(link.latency_seconds()), "0 or more seconds");
    require(link.bytes_per_second() > 0, path + ".bytes_per_second",
            absl::StrCat(link.bytes_per_second()), "more than 0");
  }
  const Host& h = m.host();
  field(h.memory_bytes_per_second() > 0, "host.memory_bytes_per_second", "more than 0");
  field(h.host_to_device_bytes_per_second() > 0, "host.host_to_device_bytes_per_second",
        "more than 0");
  field(h.device_to_host_bytes_per_second() > 0, "host.device_to_host_bytes_per_second",
        "more than 0");
  field(h.storage_read_bytes_per_second() > 0, "host.storage_read_bytes_per_second", "more than 0");
  field(h.storage_write_bytes_per_second() > 0, "host.storage_write_bytes_per_second",
        "more than 0");
  field(h.seconds_per_operation() >= 0, "host.seconds_per_operation", "0 or more");
  const std::vector<std::string> kinds = {"compute",        "comm",         "host_to_device",
                                          "device_to_host", "host_compute", "storage"};
  for (int i = 0; i < m.contention_size(); ++i) {
    const std::string path = absl::StrCat("contention[", i, "]");
    const Contention& c = m.contention(i);
    for (const auto& [name, kind] :
         {std::pair("lane", c.lane()), std::pair("beside", c.beside())}) {
      require(std::find(kinds.begin(), kinds.end(), kind) != kinds.end(),
              absl::StrCat(path, ".", name), absl::StrCat("'", kind, "'"), "a kind of lane",
              DidYouMean(kind, kinds));
    }
    require(c.factor() >= 1, path + ".factor", absl::StrCat(c.factor()), "1 or more");
  }
  if (!m.has_name()) m.set_name(std::filesystem::path(file).stem().string());
  findings.Append(own);
  if (!own.ok()) return own.ToStatus();
  return m;
}

}  // namespace millrace
