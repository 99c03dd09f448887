#include "python/json_convert.h"

#include <gtest/gtest.h>

namespace llm_proxy {
namespace {

std::string round_trip(std::string_view json) {
  const PyOwned value = json_to_python(json);
  std::string out;
  if (!value || !python_to_json(value.get(), out)) {
    PyErr_Clear();
    return "refused";
  }
  return out;
}

TEST(JsonConvert, gives_back_what_it_took) {
  const char* cases[] = {
      R"({})",
      R"([])",
      R"({"b":1,"a":2})",
      R"({"model":"m","messages":[{"role":"user","content":"hé 中 😀"}]})",
      R"([true,false,null,0,-1,9223372036854775807,18446744073709551615])",
      R"([1.5,-0.25,1e+300])",
      R"("\"\\\n\u0001")",
      R"([[[[[[[]]]]]]])",
      R"(123456789012345678901234567890)",
      R"({"a key that is far longer than what the cache of keys holds":1})",
  };
  for (const char* json : cases) EXPECT_EQ(round_trip(json), json);
}

TEST(JsonConvert, leaves_to_python_what_simdjson_refuses) {
  EXPECT_EQ(round_trip(R"(["\ud83d"])"), R"(["\ud83d"])");
  EXPECT_EQ(round_trip(R"([1e400])"), "refused");
}

TEST(JsonConvert, refuses_what_is_no_json) {
  for (const char* json : {"", "{", "{'a':1}", "[1,]", "nul", "\xff"}) {
    EXPECT_EQ(round_trip(json), "refused") << json;
  }
}

TEST(JsonConvert, writes_what_plugins_put_into_a_body) {
  struct Case {
    const char* python;
    const char* json;
  };
  const Case cases[] = {
      {"('a', 1)", R"(["a",1])"},
      {"{1: 'x', None: 2.0}", R"({"1":"x","null":2.0})"},
      {"type('S', (str,), {})('s')", R"("s")"},
      {"float('nan')", "refused"},
      {"{'a': float('inf')}", "refused"},
      {"{1, 2}", "refused"},
      {"object()", "refused"},
      {"(lambda l: l.append(l) or l)([])", "refused"},
  };
  const PyOwned globals = PyOwned::steal(PyDict_New());
  for (const Case& c : cases) {
    const PyOwned value =
        PyOwned::steal(PyRun_String(c.python, Py_eval_input, globals.get(), globals.get()));
    ASSERT_TRUE(value) << c.python;
    std::string out = "kept:";
    if (!python_to_json(value.get(), out)) {
      EXPECT_NE(PyErr_Occurred(), nullptr) << c.python;
      PyErr_Clear();
      EXPECT_EQ(out, "kept:") << c.python;
      out += "refused";
    }
    EXPECT_EQ(out, std::string("kept:") + c.json) << c.python;
  }
}

TEST(CompareBody, says_what_a_plugin_changed) {
  constexpr std::string_view kBody =
      R"({"model":"m","n":1.0,"messages":[{"role":"a"},{"role":"b"},{"role":"c"}]})";
  struct Case {
    const char* edit;
    bool changed;
    std::vector<std::string> keys;
    std::vector<std::int32_t> from;
  };
  const Case cases[] = {
      {"pass", false, {}, {0, 1, 2}},
      {"b['model'] = 'm'", false, {}, {0, 1, 2}},
      {"b['model'] = 'x'", true, {"model"}, {0, 1, 2}},
      {"b['n'] = 1", true, {"n"}, {0, 1, 2}},
      {"b['new'] = 1", true, {"new"}, {0, 1, 2}},
      {"del b['n']", true, {"n"}, {0, 1, 2}},
      {"b['model'] = b.pop('model')", true, {}, {0, 1, 2}},
      {"b['messages'][1]['role'] = 'x'", true, {}, {0, -1, 2}},
      {"b['messages'].insert(0, {'role': 's'})", true, {}, {-1, 0, 1, 2}},
      {"b['messages'].pop(0)", true, {}, {1, 2}},
      {"b['messages'] = []", true, {}, {}},
      {"b['messages'] = list(b['messages'])", false, {}, {0, 1, 2}},
      {"b.pop('messages')", true, {"messages"}, {}},
  };
  for (const Case& c : cases) {
    const PyOwned body = json_to_python(kBody);
    const PyOwned globals = PyOwned::steal(PyDict_New());
    PyDict_SetItemString(globals.get(), "b", body.get());
    const PyOwned ran =
        PyOwned::steal(PyRun_String(c.edit, Py_file_input, globals.get(), globals.get()));
    ASSERT_TRUE(ran) << c.edit;
    const BodyChange change = compare_body(kBody, body.get());
    EXPECT_EQ(change.changed, c.changed) << c.edit;
    EXPECT_EQ(change.keys, c.keys) << c.edit;
    EXPECT_EQ(change.messages_from, c.from) << c.edit;
    EXPECT_EQ(PyErr_Occurred(), nullptr) << c.edit;
  }
}

}  // namespace
}  // namespace llm_proxy
