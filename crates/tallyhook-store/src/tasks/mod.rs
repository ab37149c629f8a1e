//! Tasks, which follow their pull requests.

mod row;
mod sql;
mod task;
mod write;

pub(crate) use self::row::{TaskLinkRow, TeamTask};
pub(crate) use self::sql::FOLLOW;
pub use self::task::{
    NewTask, PendingWork, Task, TaskCause, TaskEdit, TaskEvent, TaskFilter, TaskPlace, TaskRef,
    TaskUpdate,
};
pub(crate) use self::write::TaskWriter;
