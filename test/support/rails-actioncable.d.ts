declare module '@rails/actioncable' {
  export type Callbacks = {
    connected?: (details: { reconnected: boolean }) => void;
    disconnected?: (details: { willAttemptReconnect: boolean }) => void;
    rejected?: () => void;
    received?: (message: unknown) => void;
  };
  export type Subscription = Callbacks & { identifier: string; unsubscribe(): void };
  export type Consumer = {
    subscriptions: { create(params: Record<string, unknown>, callbacks: Callbacks): Subscription };
    disconnect(): void;
    connect(): boolean;
  };
  export function createConsumer(url: string): Consumer;
  export const ConnectionMonitor: {
    /** Seconds without a message after which the client reconnects. */
    staleThreshold: number;
  };
}
