// An agent of the Vercel AI SDK: four tasks, one with a tool, one whose model fails.
import { createOpenAICompatible } from "@ai-sdk/openai-compatible";
import { generateText, stepCountIs, tool } from "ai";
import { z } from "zod";

const provider = createOpenAICompatible({ name: "local", baseURL: process.env.MODEL_URL, apiKey: "none" });
const lookup = tool({
  description: "Looks an order up",
  inputSchema: z.object({ q: z.string() }),
  execute: async ({ q }) => `order ${q} is on its way`,
});

for (const prompt of ["hello", "#tool", "hello again", "#fail"]) {
  try {
    const { text } = await generateText({
      model: provider("gpt-4o-mini"),
      prompt,
      tools: { lookup },
      stopWhen: stepCountIs(3),
      maxRetries: 0,
      telemetry: { functionId: "support" },
    });
    console.log(text);
  } catch (error) {
    console.log("failed:", error.message);
  }
}
