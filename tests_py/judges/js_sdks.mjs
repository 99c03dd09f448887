// Asks the proxy at argv[2] through the official JavaScript SDKs and says what they heard, one JSON
// object a line. The model's name says what the scripted provider answers; js_sdks.py checks.
import Anthropic from "@anthropic-ai/sdk";
import { GoogleGenAI } from "@google/genai";
import OpenAI from "openai";

const [url, setting] = process.argv.slice(2);
const { question, picture, result, schema, models } = JSON.parse(setting);
const dataUrl = `data:image/png;base64,${picture}`;
const key = { apiKey: "client", maxRetries: 0 };
const openai = new OpenAI({ baseURL: `${url}/v1`, ...key });
const anthropic = new Anthropic({ baseURL: url, ...key });
const google = new GoogleGenAI({ apiKey: "client", httpOptions: { baseUrl: url } });

const clients = {
  chat: {
    question: {
      role: "user",
      content: [
        { type: "text", text: question },
        { type: "image_url", image_url: { url: dataUrl } },
      ],
    },
    async ask(model, streamed, messages) {
      const tools = [{ type: "function", function: { name: "get_weather", parameters: schema } }];
      const ask = { model, messages, tools };
      const whole = streamed
        ? await openai.chat.completions
            .stream({ ...ask, stream_options: { include_usage: true } })
            .finalChatCompletion()
        : await openai.chat.completions.create(ask);
      const { message, finish_reason: stop } = whole.choices[0];
      const calls = (message.tool_calls ?? []).map((call) => [
        call.id,
        call.function.name,
        JSON.parse(call.function.arguments),
      ]);
      const { prompt_tokens, completion_tokens } = whole.usage;
      const { parsed, ...turn } = message;
      turn.tool_calls = turn.tool_calls?.map(({ id, type, function: made }) => ({
        id,
        type,
        function: { name: made.name, arguments: made.arguments },
      }));
      const usage = [prompt_tokens, completion_tokens];
      return { text: message.content ?? "", calls, stop, usage, turns: [turn] };
    },
    result: ([turn]) => ({ role: "tool", tool_call_id: turn.tool_calls[0].id, content: result }),
  },
  responses: {
    question: {
      role: "user",
      content: [
        { type: "input_text", text: question },
        { type: "input_image", image_url: dataUrl, detail: "auto" },
      ],
    },
    async ask(model, streamed, input) {
      const tool = { type: "function", name: "get_weather", parameters: schema, strict: false };
      const ask = { model, input, tools: [tool], store: false };
      const response = streamed
        ? await openai.responses.stream(ask).finalResponse()
        : await openai.responses.create(ask);
      const calls = response.output
        .filter((item) => item.type === "function_call")
        .map((item) => [item.call_id, item.name, JSON.parse(item.arguments)]);
      const turns = response.output.map(({ parsed_arguments, ...item }) => ({
        ...item,
        ...(item.content && { content: item.content.map(({ parsed, ...part }) => part) }),
      }));
      const { input_tokens, output_tokens } = response.usage;
      const stop = response.incomplete_details?.reason ?? response.status;
      const text = response.output_text;
      return { text, calls, stop, usage: [input_tokens, output_tokens], turns };
    },
    result: (turns) => ({
      type: "function_call_output",
      call_id: turns.find((item) => item.type === "function_call").call_id,
      output: result,
    }),
  },
  messages: {
    question: {
      role: "user",
      content: [
        { type: "text", text: question },
        { type: "image", source: { type: "base64", media_type: "image/png", data: picture } },
      ],
    },
    async ask(model, streamed, messages) {
      const tools = [{ name: "get_weather", input_schema: schema }];
      const ask = { model, messages, tools, max_tokens: 1000 };
      const message = streamed
        ? await anthropic.messages.stream(ask).finalMessage()
        : await anthropic.messages.create(ask);
      const uses = message.content.filter((block) => block.type === "tool_use");
      const texts = message.content.filter((block) => block.type === "text");
      const { input_tokens, output_tokens } = message.usage;
      return {
        text: texts.map((block) => block.text).join(""),
        calls: uses.map((block) => [block.id, block.name, block.input]),
        stop: message.stop_reason,
        usage: [input_tokens, output_tokens],
        turns: [{ role: "assistant", content: message.content }],
      };
    },
    result: ([turn]) => {
      const use = turn.content.find((block) => block.type === "tool_use");
      const content = [{ type: "tool_result", tool_use_id: use.id, content: result }];
      return { role: "user", content };
    },
  },
  google: {
    question: {
      role: "user",
      parts: [{ text: question }, { inlineData: { mimeType: "image/png", data: picture } }],
    },
    async ask(model, streamed, contents) {
      const declared = { name: "get_weather", parametersJsonSchema: schema };
      const ask = { model, contents, config: { tools: [{ functionDeclarations: [declared] }] } };
      const replies = [];
      if (streamed) {
        for await (const reply of await google.models.generateContentStream(ask)) {
          replies.push(reply);
        }
      } else {
        replies.push(await google.models.generateContent(ask));
      }
      const parts = replies.flatMap((reply) => reply.candidates?.[0]?.content?.parts ?? []);
      const last = replies.at(-1);
      return {
        text: parts.map((part) => part.text ?? "").join(""),
        calls: parts
          .filter((part) => part.functionCall)
          .map(({ functionCall: call }, at) => [call.id ?? `#${at}`, call.name, call.args ?? {}]),
        stop: last.candidates[0].finishReason,
        usage: [last.usageMetadata.promptTokenCount, last.usageMetadata.candidatesTokenCount],
        turns: [{ role: "model", parts }],
      };
    },
    result: ([turn]) => {
      const { id, name } = turn.parts.find((part) => part.functionCall).functionCall;
      return {
        role: "user",
        parts: [{ functionResponse: { id, name, response: { output: result } } }],
      };
    },
  },
};

for (const [name, client] of Object.entries(clients)) {
  for (const streamed of [false, true]) {
    const say = (model, heard) => console.log(JSON.stringify({ client: name, streamed, model, ...heard }));
    const tell = async (model, history) => {
      try {
        const heard = await client.ask(model, streamed, history);
        say(model, heard);
        return heard;
      } catch (error) {
        say(model, { error: String(error?.stack ?? error) });
        return undefined;
      }
    };
    let called;
    for (const model of models) {
      const heard = await tell(model, [client.question]);
      if (model === "one-tool") called = heard;
    }
    if (!called) continue;
    const history = [client.question, ...called.turns, client.result(called.turns)];
    await tell(`loop-${name}-${streamed}`, history);
  }
}
