#include "http/sse_writer.h"

#include <algorithm>

namespace llm_proxy {

void append_sse_event(std::string& out, std::string_view event, std::string_view data) {
  if (!event.empty()) {
    out += "event: ";
    out += event.substr(0, event.find_first_of("\r\n"));
    out += '\n';
  }
  for (;;) {
    const std::size_t end = std::min(data.find_first_of("\r\n"), data.size());
    out += "data: ";
    out += data.substr(0, end);
    out += '\n';
    if (end == data.size()) break;
    data.remove_prefix(data.substr(end, 2) == "\r\n" ? end + 2 : end + 1);
  }
  out += '\n';
}

void append_sse_comment(std::string& out, std::string_view text) {
  out += ": ";
  out += text.substr(0, text.find_first_of("\r\n"));
  out += "\n\n";
}

}  // namespace llm_proxy
