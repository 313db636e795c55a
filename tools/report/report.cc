#include "tools/report/report.h"

#include "absl/strings/str_replace.h"
#include "data/file.h"
#include "tools/report/page/page.h"
#include "tools/report/report_data.h"

namespace millrace {

std::string HtmlPage(absl::string_view title, absl::string_view data) {
  const std::string safe_title =
      absl::StrReplaceAll(title, {{"&", "&amp;"}, {"<", "&lt;"}, {">", "&gt;"}});
  // Inside strings only, where < may as well be written as an escape: so neither </script> nor <!-- is in the text.
  const std::string safe_data = absl::StrReplaceAll(data, {{"<", "\\u003c"}});
  return absl::StrReplaceAll(ReportPage(), {{"{{title}}", safe_title}, {"{{data}}", safe_data}});
}

std::string HtmlReport(const ReportInput& input) {
  return HtmlPage(input.plan->name,
                  ReportData(input).dump(-1, ' ', /*ensure_ascii=*/false,
                                         nlohmann::json::error_handler_t::replace));
}

absl::Status WriteReport(const std::string& path, const ReportInput& input) {
  return WriteFileAtomically(path, HtmlReport(input));
}

}  // namespace millrace
