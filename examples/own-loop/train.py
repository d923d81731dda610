"""A training loop of one's own. `python train.py` runs it on a desk, `torchrun --nproc-per-node=2 train.py` on two
processes, and the TrainingJob beside it in pods."""

import torch

from modelwright import train

EPOCHS, BATCH = 200, 64


def main() -> None:
    """Learn to add up four numbers."""
    with train.session() as session:
        torch.manual_seed(session.rank)
        features = torch.randn(4096, 4)
        target = features.sum(dim=1, keepdim=True)

        model = torch.nn.Sequential(torch.nn.Linear(4, 32), torch.nn.ReLU(), torch.nn.Linear(32, 1)).to(session.device)
        if session.size > 1:
            model = torch.nn.parallel.DistributedDataParallel(model)
        optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3)

        per_epoch = len(features) // BATCH
        total = EPOCHS * per_epoch
        first = session.resume(model=model, optimizer=optimizer)
        for step in range(first, total):
            rows = slice(step % per_epoch * BATCH, (step % per_epoch + 1) * BATCH)
            loss = torch.nn.functional.mse_loss(
                model(features[rows].to(session.device)), target[rows].to(session.device)
            )
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()

            session.report(step, loss=loss, total_steps=total)
            session.checkpoint(step, model=model, optimizer=optimizer)
        if session.rank == 0:
            print(f"steps {first} to {total} done")


if __name__ == "__main__":
    main()
