#include "pipelines/runner/metrics.h"

#include <unistd.h>

#include <cerrno>
#include <cmath>
#include <cstring>
#include <nlohmann/json.hpp>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "absl/strings/str_split.h"
#include "absl/time/clock.h"
#include "data/file.h"
#include "graph/base/status.h"

namespace millrace {
namespace {

constexpr double kLiveSeconds = 0.1;   // a terminal's line
constexpr double kPlainSeconds = 5.0;  // lines of a log file

double Now() { return absl::ToDoubleSeconds(absl::Now() - absl::UnixEpoch()); }

// JSON has no infinities or NaNs; a string keeps them visible.
nlohmann::ordered_json Number(double v) {
  if (std::isfinite(v)) return v;
  return std::isnan(v) ? "nan" : v > 0 ? "inf" : "-inf";
}

std::string Duration(double seconds) {
  const int64_t s = static_cast<int64_t>(seconds + 0.5);
  return s >= 3600 ? absl::StrFormat("%d:%02d:%02d", s / 3600, s / 60 % 60, s % 60)
                   : absl::StrFormat("%02d:%02d", s / 60, s % 60);
}

}  // namespace

absl::StatusOr<std::unique_ptr<MetricsFile>> MetricsFile::Open(const std::string& path,
                                                               int64_t resume_step) {
  std::string kept;
  if (resume_step > 0) {
    const absl::StatusOr<std::string> old = ReadFile(path);
    if (old.ok()) {
      for (absl::string_view line : absl::StrSplit(*old, '\n')) {
        const nlohmann::json json =
            nlohmann::json::parse(line, nullptr, /*allow_exceptions=*/false);
        if (!json.is_object() || !json.contains("step") || !json["step"].is_number_integer())
          continue;
        if (json["step"].get<int64_t>() <= resume_step) absl::StrAppend(&kept, line, "\n");
      }
    }
  }
  RETURN_IF_ERROR(WriteFileAtomically(path, kept));
  std::FILE* file = std::fopen(path.c_str(), "ae");
  if (file == nullptr)
    return absl::UnknownError(absl::StrCat(path, ": cannot open: ", std::strerror(errno)));
  return std::unique_ptr<MetricsFile>(new MetricsFile(path, file));
}

MetricsFile::~MetricsFile() { std::fclose(file_); }

absl::Status MetricsFile::WriteLine(const std::string& line) {
  // Flushed line by line: who follows the file sees each step, and a killed run keeps its lines.
  if (std::fputs((line + "\n").c_str(), file_) < 0 || std::fflush(file_) != 0) {
    return absl::UnknownError(absl::StrCat(path_, ": cannot write: ", std::strerror(errno)));
  }
  return absl::OkStatus();
}

absl::Status MetricsFile::Write(const StepMetrics& m) {
  nlohmann::ordered_json json = {
      {"step", m.step}, {"epoch", m.epoch}, {"loss", Number(m.loss)}, {"lr", m.lr}};
  if (m.grad_norm >= 0 || std::isnan(m.grad_norm)) json["grad_norm"] = Number(m.grad_norm);
  json["step_seconds"] = m.step_seconds;
  json["samples_per_second"] = m.samples_per_second;
  if (m.loss_scale > 0) json["loss_scale"] = m.loss_scale;
  if (m.skipped) json["skipped"] = true;
  if (!m.overflow_parameter.empty()) {
    json["overflow"] = {{"parameter", m.overflow_parameter}, {"rank", m.overflow_rank}};
  }
  return WriteLine(json.dump());
}

absl::Status MetricsFile::Write(const EvalMetrics& m) {
  nlohmann::ordered_json json = {{"step", m.step}, {"eval_loss", Number(m.loss)}};
  for (const auto& [name, value] : m.values) json[name] = Number(value);
  json["samples"] = m.samples;
  return WriteLine(json.dump());
}

std::string ToText(const EvalMetrics& m) {
  std::string text = absl::StrFormat("loss %.4f", m.loss);
  for (const auto& [name, value] : m.values) absl::StrAppendFormat(&text, "  %s %.4f", name, value);
  return text;
}

ProgressLine::ProgressLine(int64_t total_steps, int64_t first_step, std::string memory, bool quiet)
    : total_(total_steps),
      first_(first_step),
      memory_(std::move(memory)),
      quiet_(quiet),
      terminal_(isatty(STDERR_FILENO) == 1),
      started_(Now()) {}

void ProgressLine::Update(const StepMetrics& m) {
  const double now = Now();
  const bool last = m.step >= total_;
  if (quiet_ || (now - last_print_ < (terminal_ ? kLiveSeconds : kPlainSeconds) && !last)) return;
  last_print_ = now;
  const double share = total_ > 0 ? static_cast<double>(m.step) / static_cast<double>(total_) : 1;
  const double left = (now - started_) /
                      static_cast<double>(std::max<int64_t>(1, m.step - first_)) *
                      static_cast<double>(total_ - m.step);
  const std::string text = absl::StrFormat(
      "step %d/%d %3.0f%%  loss %.4f  lr %.3g  %.1f img/s  %s  left %s", m.step, total_,
      share * 100, m.loss, m.lr, m.samples_per_second, memory_, Duration(left));
  if (terminal_) {
    std::fprintf(stderr, "\r\033[K%s", text.c_str());
    std::fflush(stderr);
    live_ = true;
  } else {
    std::fprintf(stderr, "%s\n", text.c_str());
  }
}

void ProgressLine::Say(const std::string& text) {
  if (quiet_) return;
  std::fprintf(stderr, "%s%s\n", live_ ? "\r\033[K" : "", text.c_str());
  live_ = false;
}

void ProgressLine::Finish() {
  if (live_) std::fputs("\n", stderr);
  live_ = false;
}

}  // namespace millrace
