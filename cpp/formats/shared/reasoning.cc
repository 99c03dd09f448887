#include "formats/shared/reasoning.h"

#include <array>

namespace llm_proxy {

namespace {

struct EffortRow {
  Reasoning::Effort effort;
  std::string_view word;
  std::int64_t budget;
  std::int64_t up_to;  // budgets up to this read as the effort
};

constexpr std::array kEfforts{
    EffortRow{Reasoning::Effort::none, "none", 0, 0},
    EffortRow{Reasoning::Effort::minimal, "minimal", 1024, 1024},
    EffortRow{Reasoning::Effort::low, "low", 2048, 4096},
    EffortRow{Reasoning::Effort::medium, "medium", 8192, 12'000},
    EffortRow{Reasoning::Effort::high, "high", 24'576, 25'000},
    EffortRow{Reasoning::Effort::xhigh, "xhigh", 32'000, 40'000},
    EffortRow{Reasoning::Effort::max, "max", 48'000, INT64_MAX},
};

}  // namespace

std::string_view word(Reasoning::Effort effort) {
  return kEfforts[static_cast<std::size_t>(effort)].word;
}

std::optional<Reasoning::Effort> effort_named(Text named) {
  for (const EffortRow& row : kEfforts) {
    if (named == row.word) return row.effort;
  }
  return std::nullopt;
}

std::int64_t budget_of(Reasoning::Effort effort) {
  return kEfforts[static_cast<std::size_t>(effort)].budget;
}

Reasoning::Effort effort_of_budget(std::int64_t tokens) {
  if (tokens < 0) return Reasoning::Effort::medium;
  for (const EffortRow& row : kEfforts) {
    if (tokens <= row.up_to) return row.effort;
  }
  return Reasoning::Effort::max;
}

std::optional<Reasoning::Effort> effort_of(const Reasoning& reasoning) {
  if (reasoning.effort) return reasoning.effort;
  if (reasoning.budget_tokens) return effort_of_budget(*reasoning.budget_tokens);
  if (reasoning.adaptive.value_or(false)) return Reasoning::Effort::medium;
  return std::nullopt;
}

}  // namespace llm_proxy
