// The page that a report is: page/report.html with style and scripts put in, and {{title}} and {{data}} left to fill.
// Made by embed.py from the files beside this one.
#ifndef MILLRACE_TOOLS_REPORT_PAGE_PAGE_H_
#define MILLRACE_TOOLS_REPORT_PAGE_PAGE_H_

#include "absl/strings/string_view.h"

namespace millrace {

absl::string_view ReportPage();

}  // namespace millrace

#endif  // MILLRACE_TOOLS_REPORT_PAGE_PAGE_H_
